//! How text is shown: colours, and the terminal's width.

use std::io::IsTerminal as _;

/// How something is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
}

/// Whether colours are shown on standard output.
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// How tables are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// With colours.
    pub(crate) colours: bool,
    /// Width of the terminal, if it is one.
    pub(crate) width: Option<usize>,
    /// All columns, none of them cut.
    pub(crate) wide: bool,
}

impl Look {
    /// For standard output. As wide as the terminal: `COLUMNS`, else as the kernel says. A file or a pipe has no width.
    pub(crate) fn of_stdout(wide: bool) -> Self {
        let stdout = std::io::stdout();
        let in_environment = || std::env::var("COLUMNS").ok()?.parse::<usize>().ok();
        let known = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let width = stdout.is_terminal().then(|| in_environment().or_else(known)).flatten().filter(|width| *width > 0);
        Self { colours: colours(), width, wide }
    }
}

/// Text in a colour, where colours are shown.
pub(crate) fn paint(text: &str, tone: Tone, colours: bool) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "1;31",
        Tone::Faint => "2",
    };
    if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
