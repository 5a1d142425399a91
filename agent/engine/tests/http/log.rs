//! An engine's access log in a file.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use brattice_engine::events::access_log::writer;
use brattice_wire::engine::AccessLog;
use serde_json::Value;

use crate::support::Engine;

/// An engine's access log in a file.
pub(crate) struct Log {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    pub(crate) fn of(engine: &Engine, sample: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Arc::clone(&engine.shared.log);
        std::thread::spawn(move || writer::run(&log));
        let file = File::create(&path).unwrap();
        engine.shared.log.set_log(Some((AccessLog { sample, file: true }, file.into())));
        Self { _folder: folder, path }
    }

    /// All lines, once there are this many; a moment later there are no more.
    pub(crate) async fn lines(&self, count: usize) -> Vec<Value> {
        let started = Instant::now();
        let read = || fs::read_to_string(&self.path).unwrap();
        while read().lines().count() < count {
            assert!(started.elapsed() < Duration::from_secs(10), "{} of {count}", read().lines().count());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let lines: Vec<Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), count);
        lines
    }

    /// The only line; its reason and status.
    pub(crate) async fn only(&self) -> (String, Value) {
        let [line] = self.lines(1).await.try_into().unwrap();
        (line["failureReason"].as_str().unwrap().to_owned(), line["responseCode"].clone())
    }
}
