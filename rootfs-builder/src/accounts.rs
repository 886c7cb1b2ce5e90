//! The `User` of an image's configuration: numbers, or names that the image's
//! own /etc/passwd and /etc/group explain.
//!
//! Digits are always a number, never a name (an image may call an account "0").

use anyhow::{Context, Result};

use crate::errno::shown;

/// A longer account file is not read.
pub(crate) const MAX_LENGTH: u64 = 1024 * 1024;

/// Who the container's process is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// Reads `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid`
/// (OCI image specification, config.md, "User").
///
/// # Errors
/// A name that the account files do not have.
pub(crate) fn identity(user: &str, passwd: &str, group: &str) -> Result<Identity> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    if user.is_empty() && wanted_group.is_none() {
        return Ok(Identity::default());
    }
    let account = account(passwd, user);
    let uid = match number(user) {
        Some(uid) => uid,
        None if user.is_empty() => 0,
        None => {
            let found = account.as_ref().map(|account| account.uid);
            found
                .with_context(|| format!("user {}: not in the image's /etc/passwd", shown(user)))?
        }
    };
    if let Some(name) = wanted_group {
        let gid = number(name).or_else(|| gid_of(group, name));
        let gid =
            gid.with_context(|| format!("group {}: not in the image's /etc/group", shown(name)))?;
        return Ok(Identity {
            uid,
            gid,
            groups: Vec::new(),
        });
    }
    let Some(account) = account else {
        return Ok(Identity {
            uid,
            ..Identity::default()
        });
    };
    Ok(Identity {
        uid,
        gid: account.gid,
        groups: memberships(group, &account.name),
    })
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

/// A row of passwd(5), by its number if the text is one, else by its name.
fn account(passwd: &str, user: &str) -> Option<Account> {
    let wanted = number(user);
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let account = Account {
            name: name.to_owned(),
            uid: number(uid)?,
            gid: number(gid)?,
        };
        let matches = wanted.map_or(name == user, |wanted| wanted == account.uid);
        matches.then_some(account)
    })
}

/// Rows of group(5): name, number, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, number(gid)?, fields.next().unwrap_or_default()))
    })
}

fn gid_of(group: &str, wanted: &str) -> Option<u32> {
    groups(group)
        .find(|(name, _, _)| *name == wanted)
        .map(|(_, gid, _)| gid)
}

fn memberships(group: &str, user: &str) -> Vec<u32> {
    let holding =
        groups(group).filter(|(_, _, members)| members.split(',').any(|name| name == user));
    holding.map(|(_, gid, _)| gid).collect()
}

/// 2^32-1 is no id. A sign is no digit.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|&number| number != u32::MAX);
    number.filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/:/bin/sh\n7:x:70:70::/:\nweb:x:33:34::/:\ncut:x\n";
    const GROUP: &str = "root:x:0:\nlogs:x:4:web,root\nwebs:x:34:\ncut\n";

    fn seen(user: &str) -> Option<(u32, u32, Vec<u32>)> {
        let identity = identity(user, PASSWD, GROUP).ok()?;
        Some((identity.uid, identity.gid, identity.groups))
    }

    #[test]
    fn numbers_and_names_are_understood() {
        assert_eq!(seen(""), Some((0, 0, vec![])));
        assert_eq!(seen("1000"), Some((1000, 0, vec![])));
        assert_eq!(seen("1000:50"), Some((1000, 50, vec![])));
        assert_eq!(seen("web"), Some((33, 34, vec![4])));
        assert_eq!(seen("33"), Some((33, 34, vec![4])));
        assert_eq!(seen("web:logs"), Some((33, 4, vec![])));
        assert_eq!(seen("1000:webs"), Some((1000, 34, vec![])));
    }

    #[test]
    fn digits_are_never_a_name() {
        assert_eq!(seen("7"), Some((7, 0, vec![])));
    }

    #[test]
    fn nobody_becomes_root_by_mistake() {
        for user in [
            "nobody",
            "-1",
            "4294967295",
            "4294967296",
            "1:x",
            "cut",
            " 1",
            "+1",
        ] {
            assert_eq!(seen(user), None, "{user}");
        }
    }
}
