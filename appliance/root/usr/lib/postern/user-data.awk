# The part of a cloud-config that is read: the entries of `write_files` below /etc/postern, each with
# its `path` before `content: |`. They are written into `folder`; those of other places are passed
# over. Whatever else an entry of ours says is refused by its line, because a file that is missing
# would only be noticed when something needs it.
function refuse(why) {
    print "user-data, line " NR ": " why
    is_refused = 1
    exit 1
}

# The end of an entry.
function finish() {
    if (name != "" && !has_content) refuse(name " has no content")
    name = ""
    is_foreign = 0
    has_content = 0
    encoding = ""
}

function take_path(path) {
    gsub(/["\047]/, "", path)
    if (sub("^/etc/postern/", "", path) != 1) {
        is_foreign = 1
        return
    }
    if (path !~ /^((secrets|network)\/)?[A-Za-z0-9_-][A-Za-z0-9._-]*$/)
        refuse(path ": the only folders of settings are secrets and network")
    if (encoding != "") refuse(encoding)
    name = path
}

# The text behind `content:`, which is a block: it goes on as long as lines are further to the right.
function take_content(value) {
    if (name == "" && !is_foreign) refuse("write path before content")
    if (!is_foreign && value !~ /^\|-?$/) refuse(name ": write content: | and the text below it")
    if (value !~ /^[|>]/) return
    has_content = 1
    is_text = 1
    indent = -1
    file = is_foreign ? "/dev/null" : folder "/" name
    printf "" > file
}

function take_key(key, value) {
    if (key == "path") take_path(value)
    else if (key == "content") take_content(value)
    else if (key == "encoding") {
        encoding = "write the content as it is, without encoding"
        if (name != "") refuse(encoding)
    } else if (name != "" && key !~ /^(owner|permissions|defer)$/)
        refuse(key " is not understood")
}

{ sub(/\r$/, "") }
NR == 1 && !/^#cloud-config/ { refuse("it does not begin with #cloud-config") }
is_text && /^ *$/ { print "" > file; next }
is_text {
    match($0, /^ */)
    if (indent < 0 && RLENGTH > margin) indent = RLENGTH
    if (indent > 0 && RLENGTH >= indent) { print substr($0, indent + 1) > file; next }
    close(file)
    is_text = 0
}
/^ *(#|$)/ { next }
/^[^ -]/ {
    finish()
    is_inside = /^write_files:/
    if (is_inside && !/^write_files: *(#.*)?$/) refuse("write the entries of write_files below it")
    next
}
!is_inside { next }
{
    text = $0
    if (sub(/^ *- */, "", text)) finish()
    # A text is further to the right than the key that it belongs to.
    sub(/^ */, "", text)
    margin = length($0) - length(text)
    if (text !~ /^[a-z_]+:( |$)/) refuse("an entry is `path`, and below it `content: |`")
    key = value = text
    sub(/:.*/, "", key)
    sub(/^[a-z_]+: */, "", value)
    sub(/ +$/, "", value)
    take_key(key, value)
}
END { if (!is_refused) finish() }
