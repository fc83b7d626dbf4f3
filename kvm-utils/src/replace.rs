//! Files that are written anew each time: only one of our own is replaced.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// Why there is no file to write to.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It begins as none of ours does, and was left as it is.
    #[error("there is another file")]
    Foreign,
    /// The kernel's answer.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Creates the file, or empties it if it begins as those of ours do; any other file is left as it is. What is no regular
/// file, a pipe for instance, holds nothing that could be lost.
///
/// # Errors
///
/// If there is another file, or it cannot be written.
pub fn replace(path: &Path, beginning: &[u8]) -> Result<File, ReplaceError> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    if let Err(error) = &file
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        // What can only be written to.
        file = OpenOptions::new().write(true).open(path);
    }
    let mut file = file?;
    if !file.metadata()?.is_file() {
        return Ok(file);
    }
    let mut first = Vec::new();
    (&mut file).take(beginning.len() as u64).read_to_end(&mut first)?;
    if !first.is_empty() && first != beginning {
        return Err(ReplaceError::Foreign);
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    const OURS: &[u8] = b"ours, ";

    #[test]
    fn a_new_file_is_created_and_one_of_ours_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        for text in ["ours, and long", "ours, too"] {
            replace(&path, OURS).unwrap().write_all(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, "").unwrap();
        replace(&path, OURS).unwrap();
    }

    #[test]
    fn any_other_file_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        // The second may have been cut off, or begin by chance as ours do.
        for text in ["Dear reader", "ours", "our letter"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(replace(&path, OURS), Err(ReplaceError::Foreign)), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let missing = directory.path().join("no/such/directory");
        assert!(matches!(replace(&missing, OURS), Err(ReplaceError::File(_))));
        assert!(matches!(replace(directory.path(), OURS), Err(ReplaceError::File(_))));
    }

    #[test]
    fn what_is_no_regular_file_is_written_to() {
        replace(Path::new("/dev/null"), OURS).unwrap().write_all(b"anything").unwrap();
    }
}
