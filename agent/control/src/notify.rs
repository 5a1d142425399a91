//! Messages to the service manager, where one started the agent (`NOTIFY_SOCKET`): ready, alive, and a status line.

use sd_notify::NotifyState;
use tracing::warn;

use crate::engine::handle::View;

/// The environment that is the agent's alone: an engine must neither speak for it nor be watched in its place.
pub(crate) const ENVIRONMENT: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// What was sent last.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    ready: bool,
    status: String,
}

impl Notifier {
    /// The agent is alive, and this is how the engine is; to be called once a second and when that changes. Ready is said
    /// once, when an engine serves, or when none will: then nothing more comes, and waiting for it would only
    /// hold up the host's start.
    pub(crate) fn tell(&mut self, view: &View) {
        let status = status(view);
        let mut news = vec![NotifyState::Watchdog];
        if !self.ready && (view.state == "running" || view.given_up.is_some()) {
            self.ready = true;
            news.push(NotifyState::Ready);
        }
        if status != self.status {
            news.push(NotifyState::Status(&status));
        }
        if let Err(e) = sd_notify::notify(&news) {
            warn!(error = %e, "cannot notify the service manager");
            return;
        }
        self.status = status;
    }

    /// The agent is about to end.
    pub(crate) fn stopping() {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}

/// One line.
fn status(view: &View) -> String {
    match (&view.given_up, view.state) {
        (Some(why), _) => format!("NOT SERVING: the engine: {}", why.replace('\n', " ")),
        (None, "running") => format!("serving, revision {}", view.revision),
        (None, state) => format!("not serving: the engine is {state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whether_it_serves_and_why_not() {
        let view = View { state: "running", revision: 7, ..View::default() };
        assert_eq!(status(&view), "serving, revision 7");
        assert_eq!(status(&View { state: "starting", ..View::default() }), "not serving: the engine is starting");
        let down = View { state: "down", given_up: Some("it failed\n5 times".into()), ..View::default() };
        assert_eq!(status(&down), "NOT SERVING: the engine: it failed 5 times");
    }

    #[test]
    fn ready_is_said_when_an_engine_serves_or_none_will_and_not_before() {
        let mut notifier = Notifier::default();
        notifier.tell(&View { state: "starting", ..View::default() });
        assert!(!notifier.ready);
        notifier.tell(&View { state: "running", ..View::default() });
        assert!(notifier.ready);
        let mut notifier = Notifier::default();
        notifier.tell(&View { state: "down", ..View::default() });
        assert!(!notifier.ready, "between two tries");
        notifier.tell(&View { state: "down", given_up: Some("x".into()), ..View::default() });
        assert!(notifier.ready);
    }
}
