//! Which target group gets a request of a weighted forward.

use http::{HeaderMap, HeaderValue, header::COOKIE};

use super::head::Head;
use crate::{
    rules::{Forward, Stickiness},
    state::{Caller, State},
    upstream::balance::Balance,
};

/// The target group, and the cookie that keeps the caller there if it has none yet; `None` when none has a weight.
pub(crate) fn group(
    forward: &Forward,
    head: &Head<'_>,
    caller: &Caller,
    state: &State,
    balance: &mut Balance,
) -> Option<(u32, Option<HeaderValue>)> {
    let sticky = match &forward.stickiness {
        None => None,
        Some(Stickiness::Cookie { name, marks }) => {
            let reachable = |index: usize| {
                forward.weights.get(index).is_some_and(|weight| *weight > 0)
                    && state.group(forward.groups[index]).is_some_and(|group| !group.targets.is_empty())
            };
            let known = cookies(head.headers, name).find_map(|value| {
                let index = marks.iter().position(|(mark, _)| mark.as_bytes() == value)?;
                reachable(index).then_some(index)
            });
            if known.is_none() {
                let chosen = balance.share(forward)?;
                let cookie = marks.get(chosen).map(|(_, cookie)| cookie.clone());
                return Some((*forward.groups.get(chosen)?, cookie));
            }
            known
        }
        Some(Stickiness::Header(name, shares)) => {
            let mut values = head.headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => None,
                (Some(value), None) => brattice_router::sticky(shares, value.as_bytes()),
                (Some(_), Some(_)) => {
                    let all: Vec<&[u8]> = head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                    brattice_router::sticky(shares, &all.join(&b", "[..]))
                }
            }
        }
        Some(Stickiness::Source(shares)) => {
            let vpc = state.vpc(caller.vpc).map_or("", |vpc| vpc.id.as_str());
            brattice_router::sticky(shares, brattice_router::SourceKey::new(vpc, caller.address).bytes())
        }
    };
    let chosen = match sticky {
        Some(chosen) => chosen,
        None => balance.share(forward)?,
    };
    Some((*forward.groups.get(chosen)?, None))
}

/// The values of a cookie in a request (RFC 6265, 4.2.1).
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';')).filter_map(
        move |pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            (&pair[..equals] == name.as_bytes()).then(|| &pair[equals + 1..])
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; group=x;group=y; xgroup=z"));
        headers.append(COOKIE, HeaderValue::from_static("nothing;group=\"q\"; group="));
        let found: Vec<&[u8]> = cookies(&headers, "group").collect();
        assert_eq!(found, [&b"x"[..], b"y", b"\"q\"", b""]);
    }
}
