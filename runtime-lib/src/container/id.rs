//! Container ids: checked once, before any of them becomes part of a path.

use std::fmt;

use crate::error::{Code, Error, Result};

/// NAME_MAX of Linux's file systems: an id is the name of a directory.
const LONGEST: usize = 255;

/// A container id: 1 to 255 of the characters `A-Z a-z 0-9 _ + - .`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks an id.
    ///
    /// # Errors
    /// [`Code::InvalidId`]; the message doesn't repeat the id, which may hold anything.
    pub fn new(id: &str) -> Result<ContainerId> {
        let refused =
            |hint| Err(Error::new(Code::InvalidId, "invalid container ID format").hint(hint));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        match id {
            "" => refused("the container id is empty"),
            id if id.len() > LONGEST => refused("a container id has at most 255 characters"),
            id if id.starts_with('.') => refused("a container id doesn't begin with a dot"),
            id if !id.chars().all(allowed) => {
                refused("a container id is made of letters, digits and _ + - .")
            }
            id => Ok(ContainerId(id.to_owned())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s16_ids_that_are_no_plain_names_are_refused() {
        let long = "a".repeat(256);
        let bad = [
            "", ".", "..", "../x", "a/b", ".x", "a b", "a\nb", "%s%n", "ä", "a\0b", &long,
        ];
        for id in bad {
            let error = ContainerId::new(id).unwrap_err();
            assert!(
                error.to_string().ends_with("invalid container ID format"),
                "{id:?}"
            );
            assert!(
                id.len() < 2 || !error.to_string().contains(id),
                "{id:?} is echoed"
            );
        }
    }

    #[test]
    fn ids_of_engines_are_accepted() {
        let hex = "0123456789abcdef".repeat(4);
        for id in ["web", "a_b+c-d.e", "1", &hex, &"a".repeat(255)] {
            assert_eq!(ContainerId::new(id).unwrap().as_str(), id);
        }
    }
}
