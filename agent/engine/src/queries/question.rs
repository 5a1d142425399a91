//! A question from outside, and what the workers answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use brattice_wire::records::Query;
use serde::Serialize;

/// A question on its way through the workers.
#[derive(Debug)]
pub struct Question {
    pub(crate) query: Query,
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
pub(super) struct Answers {
    /// JSON, one per line.
    pub(super) rows: Vec<u8>,
    pub(super) left_out: u64,
    /// Lines of the past with their times, ms.
    pub(super) lines: Vec<(u64, Vec<u8>)>,
    /// For each worker, the number of the first request that is not in `lines`.
    pub(super) from: BTreeMap<u32, u64>,
}

impl Question {
    pub(super) fn new(query: Query) -> Arc<Self> {
        Arc::new(Self { query, answers: Mutex::default() })
    }

    pub(super) fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row of the answer.
    pub(crate) fn row(&self, row: &impl Serialize) {
        let rows = &mut self.answers().rows;
        let before = rows.len();
        if serde_json::to_writer(&mut *rows, row).is_ok() {
            rows.push(b'\n');
        } else {
            rows.truncate(before);
        }
    }

    /// Rows that there is no room for.
    pub(crate) fn left_out(&self, rows: usize) {
        self.answers().left_out += rows as u64;
    }

    /// A line of the past.
    pub(crate) fn line(&self, time: u64, line: &[u8]) {
        self.answers().lines.push((time, line.to_vec()));
    }

    /// The requests of a worker that end from this number on come later.
    pub(crate) fn follows_from(&self, worker: u32, number: u64) {
        self.answers().from.insert(worker, number);
    }
}
