//! Texts inside rules: paths, patterns, header fields, hosts.

use brattice_router as router;

use crate::diagnostic::{Diagnostic, Position, quote};
use crate::limits::{MAX_HEADER_NAME, MAX_HEADER_VALUE, MAX_MATCH_VALUE, MAX_PATH, MAX_REGEXES_PER_OWNER};
use crate::names;
use crate::yaml::{Decoder, Node};

/// Fields that are about one connection (RFC 9110, 7.6.1), or frame a message: Brattice writes them anew for the next one.
const OF_ONE_CONNECTION: [&str; 7] =
    ["connection", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// How a field's name looks to servers that show it to applications as a variable, as CGI began it: all but letters and
/// digits are the same.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Whether callers and targets cannot say this field, as only Brattice does.
fn is_ours(folded: &str) -> bool {
    folded.starts_with("x-amzn-lattice") || folded.starts_with("x-brattice-") || folded == "x-amzn-source-vpc"
}

/// Whether a byte may be in a token (RFC 9110, 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn refuse(d: &mut Decoder<'_>, node: &Node, text: &str, what: &str, why: &str) {
    let diagnostic = d.error(node.mark, format!("{} is no {what}: {why}", quote(text)));
    d.report(diagnostic);
}

/// A path in normal form. `beginning`: only how one begins.
pub(super) fn path(d: &mut Decoder<'_>, node: &Node, beginning: bool) -> Option<String> {
    let text = d.string(node, "a path like /orders")?;
    if let Err(why) = plain_path(text) {
        refuse(d, node, text, "path", &why);
        return None;
    }
    // How a path begins is in normal form where something follows.
    let whole = if beginning { format!("{text}x") } else { text.to_owned() };
    match router::path::normalize(&whole) {
        Ok(normal) if normal == whole => Some(text.to_owned()),
        Ok(normal) => {
            let normal = if beginning { normal.strip_suffix('x').unwrap_or(&normal) } else { &normal };
            let message =
                format!("{} is not in normal form, as requests' paths are when they are compared", quote(text));
            let diagnostic = d.error(node.mark, message);
            d.report(diagnostic.expected(quote(normal)));
            None
        }
        Err(why) => {
            refuse(d, node, text, "path", &format!("requests with it are refused: {why}"));
            None
        }
    }
}

fn plain_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("it does not begin with `/`".into());
    }
    if text.len() > MAX_PATH {
        return Err(format!("it has more than {MAX_PATH} characters"));
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(format!("paths are compared without query and fragment, so `{c}` would never match"));
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%/".contains(*c);
    match text.chars().find(|c| !allowed(c)) {
        Some(c) => Err(format!("{} is not allowed in it", quote(&c.to_string()))),
        None => Ok(()),
    }
}

/// A regular expression that the router compiles.
pub(super) fn regex(d: &mut Decoder<'_>, node: &Node, case_sensitive: bool) -> Option<String> {
    let text = d.located(node, "a regular expression")?;
    count_regex(d, &text.at)?;
    match router::check_regex(&text, case_sensitive) {
        Ok(()) => Some(text.value),
        Err(why) => {
            d.report(Diagnostic::error(&text.at, why.to_string()));
            None
        }
    }
}

/// Counts a regular expression before it is compiled: nothing in documents takes longer. `None` where there are too many.
pub(super) fn count_regex(d: &mut Decoder<'_>, at: &Position) -> Option<()> {
    *d.regexes += 1;
    if *d.regexes <= MAX_REGEXES_PER_OWNER {
        return Some(());
    }
    if *d.regexes == MAX_REGEXES_PER_OWNER + 1 {
        let message = format!("more than {MAX_REGEXES_PER_OWNER} regular expressions in the files of one owner");
        d.report(Diagnostic::error(at, message).help("match prefixes where they do"));
    }
    None
}

/// Name of a header field, in lower case.
pub(super) fn field_name(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.string(node, "the name of a header field")?;
    if text.is_empty() || text.len() > MAX_HEADER_NAME || !text.bytes().all(is_token) {
        let why = format!("one has 1 to {MAX_HEADER_NAME} characters of an HTTP token");
        refuse(d, node, text, "name of a header field", &why);
        return None;
    }
    Some(text.to_ascii_lowercase())
}

/// Name of a header field that rules may ask for: what does not reach targets does not decide where requests go.
pub(super) fn asked_field(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = field_name(d, node)?;
    let folded = folded(&name);
    let respelled = name != folded && (folded.starts_with("x-forwarded-") || folded == "x-amzn-requestid");
    let why = if folded == "host" {
        "HTTP/2 has none; say `hostMatch`"
    } else if name == "upgrade" {
        // An offer of another protocol is passed on.
        return Some(name);
    } else if OF_ONE_CONNECTION.contains(&folded.as_str()) || folded.starts_with("proxy-") {
        "it is about one connection only"
    } else if is_ours(&folded) {
        "what callers write into it is removed; who calls is asked by policies, or by `sourceVpcs`"
    } else if respelled {
        "in this spelling it is removed"
    } else {
        return Some(name);
    };
    let diagnostic = d.error(node.mark, format!("rules cannot go by the header field {}: {why}", quote(&name)));
    d.report(diagnostic);
    None
}

/// Name of a header field that may be changed.
pub(super) fn edited_field(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = field_name(d, node)?;
    let folded = folded(&name);
    let why = if OF_ONE_CONNECTION.contains(&folded.as_str()) || folded.starts_with("proxy-") {
        "it is about one connection only"
    } else if folded == "host" {
        "say `rewrite: {hostname: …}`"
    } else if folded == "content-length" || folded == "expect" {
        "it belongs to the body, which is passed on as it is"
    } else if folded.starts_with("x-forwarded-") || folded == "x-amzn-requestid" {
        "Brattice writes it"
    } else if is_ours(&folded) {
        "targets trust it to tell who calls, so only Brattice writes it"
    } else {
        return Some(name);
    };
    let diagnostic = d.error(node.mark, format!("the header field {} cannot be changed: {why}", quote(&name)));
    d.report(diagnostic);
    None
}

/// Value of a header field to be written.
pub(super) fn field_value(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.string(node, "the value of a header field")?;
    let why = if text.len() > MAX_HEADER_VALUE {
        format!("it has more than {MAX_HEADER_VALUE} bytes")
    } else if let Some(c) = text.chars().find(|c| !matches!(c, ' '..='~')) {
        format!("{} is not allowed in it; there may be printable ASCII characters", quote(&c.to_string()))
    } else if text.trim() != text {
        "it begins or ends with a space".into()
    } else {
        return Some(text.to_owned());
    };
    refuse(d, node, text, "value of a header field", &why);
    None
}

/// A value to be compared with.
pub(super) fn compared(d: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.string(node, "a value to compare with")?;
    let why = if text.is_empty() || text.len() > MAX_MATCH_VALUE {
        format!("one has 1 to {MAX_MATCH_VALUE} bytes")
    } else if text.chars().any(char::is_control) {
        "it has control characters, which no request may have".into()
    } else {
        return Some(text.to_owned());
    };
    refuse(d, node, text, "value to compare with", &why);
    None
}

/// A host name in lower case without a trailing dot; `with_port`: a port may follow.
pub(super) fn host(d: &mut Decoder<'_>, node: &Node, with_port: bool) -> Option<String> {
    let text = d.string(node, "a host name like orders.shop.internal")?;
    let (name, port) = match text.split_once(':') {
        Some((name, port)) if with_port => (name, Some(port)),
        _ => (text, None),
    };
    let port = port.map(|port| (port, port.parse::<u16>().ok().filter(|number| *number > 0)));
    if let Some((port, None)) = port {
        refuse(d, node, text, "host", &format!("{} is no port", quote(port)));
        return None;
    }
    match names::domain(name) {
        Ok(name) => Some(port.and_then(|(_, port)| port).map_or_else(|| name.clone(), |port| format!("{name}:{port}"))),
        Err(why) => {
            refuse(d, node, text, "host", &why);
            None
        }
    }
}
