//! One file of kernel, initrd and command line that UEFI starts: a unified kernel image,
//! <https://uapi-group.org/specifications/specs/unified_kernel_image/>.
//!
//! It is systemd's stub, a program in the format PE, with a section added for each part:
//! <https://learn.microsoft.com/windows/win32/debug/pe-format>.

use anyhow::{Context, Result, bail};

/// Where a PE file names the place of its header.
const HEADER_AT: usize = 0x3c;
/// From the header to its fields.
const SECTIONS: usize = 6;
const OPTIONAL_LENGTH: usize = 20;
const OPTIONAL: usize = 24;
/// From the optional header to its fields.
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const IMAGE_LENGTH: usize = 56;
const HEADERS_LENGTH: usize = 60;
/// The header of a section.
const SECTION_LENGTH: usize = 40;
const NAME_LENGTH: usize = 8;
/// Initialized data that may be read.
const FLAGS: u32 = 0x4000_0040;

/// Puts parts behind the sections of a stub, in this order: `(".linux", kernel)`.
///
/// # Errors
/// If the stub is no PE file, or has no room for the headers of more sections.
pub(super) fn assemble(stub: &[u8], parts: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut image = stub.to_vec();
    let header = number(&image, HEADER_AT)?;
    if image.get(header..header + 4) != Some(b"PE\0\0") {
        bail!("the stub is no PE file");
    }
    let optional = header + OPTIONAL;
    let first = optional + usize::from(short(&image, header + OPTIONAL_LENGTH)?);
    let section_alignment = number(&image, optional + SECTION_ALIGNMENT)?;
    let file_alignment = number(&image, optional + FILE_ALIGNMENT)?;
    let headers_end = number(&image, optional + HEADERS_LENGTH)?;
    for (name, content) in parts {
        let count = short(&image, header + SECTIONS)?;
        let place = first + usize::from(count) * SECTION_LENGTH;
        if place + SECTION_LENGTH > headers_end {
            bail!("the stub has no room for the section {name}");
        }
        let address = number(&image, optional + IMAGE_LENGTH)?;
        let address = address.next_multiple_of(section_alignment);
        let offset = image.len().next_multiple_of(file_alignment);
        let length = content.len().next_multiple_of(file_alignment);
        image.resize(offset, 0);
        image.extend_from_slice(content);
        image.resize(offset + length, 0);
        let fields = [content.len(), address, length, offset];
        put(&mut image, place, &section(name, fields)?)?;
        put(&mut image, header + SECTIONS, &(count + 1).to_le_bytes())?;
        let end = (address + content.len()).next_multiple_of(section_alignment);
        let end = u32::try_from(end)?.to_le_bytes();
        put(&mut image, optional + IMAGE_LENGTH, &end)?;
    }
    Ok(image)
}

/// A section's header; `fields` are its length in memory, its address, its length in the file and
/// its place there.
fn section(name: &str, fields: [usize; 4]) -> Result<Vec<u8>> {
    if name.len() > NAME_LENGTH {
        bail!("{name} is too long for the name of a section");
    }
    let mut header = name.as_bytes().to_vec();
    header.resize(NAME_LENGTH, 0);
    for field in fields {
        header.extend_from_slice(&u32::try_from(field)?.to_le_bytes());
    }
    // No relocations and line numbers.
    header.resize(SECTION_LENGTH - 4, 0);
    header.extend_from_slice(&FLAGS.to_le_bytes());
    Ok(header)
}

fn number(image: &[u8], at: usize) -> Result<usize> {
    let bytes = image.get(at..at + 4).context("the stub is cut off")?;
    Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
}

fn short(image: &[u8], at: usize) -> Result<u16> {
    let bytes = image.get(at..at + 2).context("the stub is cut off")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) -> Result<()> {
    let place = image.get_mut(at..at + bytes.len());
    place.context("the stub is cut off")?.copy_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a program without sections, with room for one.
    fn stub() -> Vec<u8> {
        let mut stub = vec![0; 512];
        let mut set = |at: usize, value: u32| {
            stub[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        set(HEADER_AT, 64);
        set(64, u32::from_le_bytes(*b"PE\0\0"));
        set(64 + OPTIONAL_LENGTH, 240);
        set(88 + SECTION_ALIGNMENT, 4_096);
        set(88 + FILE_ALIGNMENT, 512);
        set(88 + IMAGE_LENGTH, 4_096);
        set(88 + HEADERS_LENGTH, 88 + 240 + 40 + 39);
        stub
    }

    #[test]
    fn a_part_is_a_section_behind_everything() -> Result<()> {
        let image = assemble(&stub(), &[(".linux", b"kernel")])?;
        assert_eq!(&image[512..518], b"kernel");
        assert_eq!(image.len(), 1_024);
        assert_eq!(&image[328..336], b".linux\0\0");
        assert_eq!(short(&image, 64 + SECTIONS)?, 1);
        assert_eq!(number(&image, 340)?, 4_096);
        assert_eq!(number(&image, 348)?, 512);
        assert_eq!(number(&image, 88 + IMAGE_LENGTH)?, 8_192);
        Ok(())
    }

    #[test]
    fn a_stub_that_does_not_fit_is_refused() {
        assert!(assemble(b"MZ", &[]).is_err());
        let parts: [(&str, &[u8]); 2] = [(".linux", b"kernel"), (".initrd", b"initrd")];
        assert!(assemble(&stub(), &parts).is_err());
        assert!(assemble(&stub(), &[(".toolonganame", b"")]).is_err());
    }
}
