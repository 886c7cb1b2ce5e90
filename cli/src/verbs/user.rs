//! Users and groups of the command line: numbers, or names that the container's own files know.

use capsid_runtime::{Container, Result};

/// A user or group as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    Number(u32),
    /// Looked up in the container's own files.
    Name(String),
}

impl Who {
    pub fn gid(&self, container: &Container) -> Result<u32> {
        match self {
            Who::Number(gid) => Ok(*gid),
            Who::Name(name) => container.group(name).map_err(|error| error.during("exec")),
        }
    }
}

/// A user, and the group if one was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub user: Who,
    pub group: Option<Who>,
}

/// What the process becomes; None: as the process that it starts from.
pub struct Ids {
    pub uid: u32,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
}

impl User {
    /// A name stands for the user's groups as well.
    pub fn ids(&self, container: &Container) -> Result<Ids> {
        let group = self.group.as_ref().map(|group| group.gid(container));
        let gid = group.transpose()?;
        Ok(match &self.user {
            Who::Number(uid) => Ids {
                uid: *uid,
                gid,
                groups: None,
            },
            Who::Name(name) => {
                let account = container
                    .account(name)
                    .map_err(|error| error.during("exec"))?;
                Ids {
                    uid: account.uid,
                    gid: gid.or(Some(account.gid)),
                    groups: Some(account.groups),
                }
            }
        })
    }
}

/// USER, or USER:GROUP.
pub fn user(text: &str) -> std::result::Result<User, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(who(group)?)),
        None => (text, None),
    };
    let user = who(user)?;
    Ok(User { user, group })
}

/// Digits are a number, whatever names the container has; a name begins with a letter.
/// 4294967295 is -1, which the kernel takes for "leave it".
pub fn who(text: &str) -> std::result::Result<Who, String> {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@$+".contains(&byte);
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(name)
        && text.len() <= 256
    {
        return Ok(Who::Name(text.to_owned()));
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(id) if digits && id != u32::MAX => Ok(Who::Number(id)),
        _ => Err("it is neither a number from 0 to 4294967294 nor a name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_a_user_is_a_number_in_range_or_a_name() {
        let name = |text: &str| Who::Name(text.to_owned());
        for (text, expected) in [
            ("0", (Who::Number(0), None)),
            ("1:2", (Who::Number(1), Some(Who::Number(2)))),
            ("bob", (name("bob"), None)),
            ("1:x", (Who::Number(1), Some(name("x")))),
            ("www-data:0", (name("www-data"), Some(Who::Number(0)))),
        ] {
            let (user_, group) = expected;
            assert_eq!(user(text), Ok(User { user: user_, group }), "{text}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "1:",
            ":1",
            "1:-1",
            " 1",
            "1 ",
            "0x0",
            "1e3",
            "4294967295",
            "4294967296",
            "1:4294967296",
            "1:2:3",
            "a b",
            "a/b",
            "-bob",
            "é",
        ] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
