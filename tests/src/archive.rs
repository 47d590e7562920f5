//! An archive that a kernel unpacks into memory at its start:
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The kind of a file, in its mode.
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Names, headers and contents begin at multiples of this, in bytes.
const ALIGNMENT: usize = 4;

/// The name that ends an archive.
const END: &str = "TRAILER!!!";

/// Writes files one after the other.
#[derive(Debug)]
pub struct Archive<W> {
    writer: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Begins an archive. The kernel accepts several, one after the other.
    pub fn new(writer: W) -> Self {
        Self { writer, entries: 0 }
    }

    /// A folder that everybody may enter.
    ///
    /// # Errors
    /// As the writer.
    pub fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER | 0o755, &[])
    }

    /// A file of root's.
    ///
    /// # Errors
    /// As the writer, or if the file is longer than the format can say.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | mode, content)
    }

    /// Everything in a folder, as files of root's, in the order of their names.
    ///
    /// # Errors
    /// As the writer, or if something cannot be read or is no file, folder or symbolic link.
    pub fn tree(&mut self, folder: &Path) -> io::Result<()> {
        self.below(folder, "")
    }

    fn below(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let (path, facts) = (entry.path(), entry.metadata()?);
            let mode = facts.permissions().mode() & 0o7777;
            if facts.is_dir() {
                self.entry(&name, FOLDER | mode, &[])?;
                self.below(&path, &format!("{name}/"))?;
            } else if facts.is_symlink() {
                let target = fs::read_link(&path)?;
                self.entry(&name, LINK | 0o777, target.as_os_str().as_bytes())?;
            } else if facts.is_file() {
                self.file(&name, mode, &fs::read(&path)?)?;
            } else {
                return Err(io::Error::other(format!("{name} is no file")));
            }
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// As the writer.
    pub fn end(mut self) -> io::Result<W> {
        self.entry(END, 0, &[])?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    /// Times are 0, so that the same files make the same archive.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
        let (inode, links, time, device, check) = (self.entries, 1, 0, 0, 0);
        let (user, group) = (0, 0);
        let fields = [
            inode,
            mode,
            user,
            group,
            links,
            time,
            size(content.len())?,
            device,
            device,
            device,
            device,
            size(name.len() + 1)?,
            check,
        ];
        let mut header = "070701".to_owned();
        header.extend(fields.map(|it| format!("{it:08x}")));
        header.push_str(name);
        header.push('\0');
        self.aligned(header.as_bytes())?;
        self.aligned(content)
    }

    fn aligned(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        let rest = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        let zeros = [0; ALIGNMENT];
        self.writer.write_all(zeros.get(..rest).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_comes_in_the_order_of_its_names() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("b"))?;
        fs::write(folder.path().join("b/file"), "content")?;
        std::os::unix::fs::symlink("b/file", folder.path().join("a"))?;
        let mut archive = Archive::new(Vec::new());
        archive.tree(folder.path())?;
        let bytes = archive.end()?;
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(&format!("00000000{name}\0"));
        let places = [at("a"), at("b"), at("b/file")];
        assert!(places.iter().all(Option::is_some), "{text}");
        assert!(places.is_sorted(), "{text}");
        Ok(())
    }

    #[test]
    fn every_part_is_aligned_and_every_length_is_said() -> io::Result<()> {
        let mut archive = Archive::new(Vec::new());
        archive.folder("bench")?;
        archive.file("bench/plan", 0o600, b"SEED=1\n")?;
        let bytes = archive.end()?;
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let text = String::from_utf8_lossy(&bytes);
        let parts: Vec<&str> = text.split("070701").collect();
        assert_eq!(parts.len(), 4);
        // The second entry: mode 0100600, 7 bytes under a name of 10 and its end.
        assert!(parts[2].starts_with("0000000200008180"), "{}", parts[2]);
        assert_eq!(&parts[2][48..56], "00000007");
        assert_eq!(&parts[2][88..96], "0000000b");
        assert!(parts[2].ends_with("bench/plan\0\0\0\0SEED=1\n\0"), "{text}");
        Ok(())
    }
}
