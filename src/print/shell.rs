//! Arguments as a POSIX shell reads them.

/// A word for the shell, quoted where it needs to be.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// One line for each argument, to be pasted into a shell.
pub(super) fn lines(arguments: &[String]) -> String {
    arguments.join(" \\\n") + "\n"
}
