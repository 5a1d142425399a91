//! Users and groups by name or number.

use nix::unistd::{Group, User};

use crate::Failure;

/// The engine's user: (number, primary group if it has a name).
pub(crate) fn engine_user(name: &str) -> Result<(u32, Option<u32>), Failure> {
    if let Ok(uid) = name.parse::<u32>() {
        let user = User::from_uid(uid.into()).ok().flatten();
        return Ok((uid, user.map(|user| user.gid.as_raw())));
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid.as_raw(), Some(user.gid.as_raw()))),
        Ok(None) => Err(Failure::new(format!(
            "there is no user {name} for the engine; make one: useradd --system --no-create-home --shell /usr/sbin/nologin {name} (or name another with --engine-user)"
        ))),
        Err(e) => Err(Failure::new(format!("user {name} cannot be looked up: {e}"))),
    }
}

/// A name or number of a user, as a flag: refused where this host knows it as one that the engine cannot have. One that is
/// not there is no error yet.
pub(crate) fn not_root(name: &str) -> Result<String, String> {
    let uid = match name.parse::<u32>() {
        Ok(uid) => Some(uid),
        Err(_) => User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()),
    };
    match uid.map(brattice_loader::check_engine_uid) {
        Some(Err(reason)) => Err(format!("{name:?}: {reason}")),
        _ => Ok(name.to_owned()),
    }
}

/// A group that was asked for.
pub(crate) fn group(name: &str) -> Result<u32, Failure> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Failure::new(format!("there is no group {name}; make one: groupadd --system {name}"))),
        Err(e) => Err(Failure::new(format!("group {name} cannot be looked up: {e}"))),
    }
}

/// The default group, if it exists.
pub(crate) fn default_group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_user_nobody_are_refused_as_engine_user() {
        for user in ["root", "0", "00", "65534", "4294967295"] {
            let refused = not_root(user).unwrap_err();
            assert!(refused.contains("a user of its own") && !refused.contains("group"), "{refused}");
        }
        for user in ["4711", "no-such-user-here"] {
            assert_eq!(not_root(user).as_deref(), Ok(user));
        }
    }
}
