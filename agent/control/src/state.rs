//! The state directory: what must survive the agent.
//!
//! `state.json` holds numbers, aliases, VIPs and the revision; `last-good/<owner>.json` the documents in force of each
//! owner. Every file is written whole to a name of its own and renamed, so that a reader or a crash never sees half.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use brattice_model::{Numbers, Owner, VipState};
use brattice_sources::owners::LastGood;
use brattice_sources::worker::Store;
use brattice_wire::snapshot::ServiceNumber;
use ipnet::Ipv4Net;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::aliases;

/// Version of the files; another one is put aside, not guessed at.
pub const SCHEMA: u32 = 1;
/// Largest file read back, bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// What must survive, besides documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The boot in which it was written: aliases and connections end with it.
    pub boot_id: String,
    /// Revision given last.
    pub revision: u64,
    /// The VIP range, once chosen.
    pub vip_range: Option<Ipv4Net>,
    /// The alias range, once chosen.
    pub alias_range: Option<Ipv4Net>,
    /// VIPs of services.
    pub vips: VipState,
    /// Numbers of services.
    pub numbers: Numbers,
    /// Service name → number, of the services in force: for `--offline`.
    pub services: BTreeMap<String, ServiceNumber>,
    /// Aliases.
    pub aliases: aliases::Saved,
    /// Numbers of workloads.
    pub workloads: aliases::WorkloadNumbers,
}

impl Default for State {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            boot_id: String::new(),
            revision: 0,
            vip_range: None,
            alias_range: None,
            vips: VipState::default(),
            numbers: Numbers::default(),
            services: BTreeMap::new(),
            aliases: aliases::Saved::default(),
            workloads: aliases::WorkloadNumbers::default(),
        }
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be made or read.
    #[error("the state directory {path} cannot be used: {source}; name another one with --state-dir")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A file of a later version.
    #[error(
        "{path} was written by another version (schema {found}, this one knows {SCHEMA}); start that version, or move the file away"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct StateDirectory {
    root: PathBuf,
}

impl StateDirectory {
    /// Opens it, and makes it if need be (only root may look into it).
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        let directory = Self::existing(root);
        match directory.make() {
            // Existing files can be read; what must be kept waits for free space.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                error!("the state directory {}", directory.refusal(&e));
            }
            Err(source) => return Err(StateError::Directory { path: root.to_owned(), source }),
            Ok(()) => {}
        }
        Ok(directory)
    }

    /// Makes the folders where they are not (any more).
    fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.last_good())
    }

    /// For readers: nothing is made.
    pub fn existing(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Why it refused, and what to do: one sentence for people.
    pub fn refusal(&self, e: &io::Error) -> String {
        let path = self.root.display();
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("{path} is full ({e}); free space there, it is tried again every few seconds")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                format!("{path} is read-only ({e}): did the disk fail? Mend or mount it anew, it is tried again")
            }
            _ => format!("{path}: {e}"),
        }
    }

    fn last_good(&self) -> PathBuf {
        self.root.join("last-good")
    }

    /// The file of what is kept besides documents.
    pub fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// Reads the state. A file that makes no sense is put aside and an empty state returned: the node then starts with
    /// new aliases and numbers, which costs connections but never mixes workloads up.
    ///
    /// # Errors
    /// When the file is of another version.
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.state_file();
        match read_json::<State>(&path) {
            Ok(Some(state)) if state.schema == SCHEMA => Ok(state),
            Ok(Some(state)) => Err(StateError::Schema { path, found: u64::from(state.schema) }),
            Ok(None) => Ok(State::default()),
            Err(e) => {
                if let Ok(Some(serde_json::Value::Object(fields))) = read_json(&path)
                    && let Some(found) = fields.get("schema").and_then(serde_json::Value::as_u64)
                    && found != u64::from(SCHEMA)
                {
                    return Err(StateError::Schema { path, found });
                }
                put_aside(&path, &e);
                Ok(State::default())
            }
        }
    }

    /// Reads the state without changing anything; empty where it cannot be read.
    pub fn peek(&self) -> State {
        read_json::<State>(&self.state_file()).ok().flatten().filter(|state| state.schema == SCHEMA).unwrap_or_default()
    }

    /// Removes every file of Brattice, and the directories if nothing else is in them. Says what was removed.
    ///
    /// # Errors
    /// When such a file cannot be removed.
    pub fn remove(&self) -> io::Result<Vec<String>> {
        let mut removed = Vec::new();
        let mut folders = vec![self.last_good(), self.root.clone()];
        for folder in &folders {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                let of_ours = path.extension().is_some_and(|e| e == "json" || e == "new" || e == "broken")
                    && (path.file_stem().is_some_and(|stem| stem == "state") || *folder == self.last_good());
                if of_ours {
                    fs::remove_file(&path)?;
                    removed.push(path.display().to_string());
                }
            }
        }
        folders.retain(|folder| fs::remove_dir(folder).is_ok());
        removed.extend(folders.iter().map(|folder| folder.display().to_string()));
        Ok(removed)
    }

    /// Writes the state.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, state: &State) -> io::Result<()> {
        self.make()?;
        write_json(&self.state_file(), state)
    }

    /// Reads every owner's last good documents; files that make no sense are put aside.
    pub fn load_owners(&self) -> BTreeMap<Owner, LastGood> {
        self.read_owners(put_aside)
    }

    /// As [`Self::load_owners`], without changing anything.
    pub fn peek_owners(&self) -> BTreeMap<Owner, LastGood> {
        self.read_owners(|_, _| {})
    }

    fn read_owners(&self, broken: impl Fn(&Path, &io::Error)) -> BTreeMap<Owner, LastGood> {
        let mut owners = BTreeMap::new();
        let Ok(entries) = fs::read_dir(self.last_good()) else { return owners };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_json::<LastGood>(&path) {
                Ok(Some(good)) if path == self.owner_file(&good.owner) => {
                    owners.insert(good.owner.clone(), good);
                }
                Ok(None) => {}
                Ok(Some(_)) => broken(&path, &io::Error::other("it names another owner than the file")),
                Err(e) => broken(&path, &e),
            }
        }
        owners
    }

    /// Keeps an owner's documents.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save_owner(&self, good: &LastGood) -> io::Result<()> {
        self.make()?;
        write_json(&self.owner_file(&good.owner), good)
    }

    /// Forgets an owner.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_owner(&self, owner: &Owner) -> io::Result<()> {
        match fs::remove_file(self.owner_file(owner)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// An account may be called anything an account may be called, so the kind is part of the name.
    fn owner_file(&self, owner: &Owner) -> PathBuf {
        let name = match owner {
            Owner::Operator => "operator.json".to_owned(),
            // Account names hold lower-case letters, digits and dashes; anything else is no path of an owner.
            Owner::Account(name) => format!("account-{}.json", name.replace(['/', '.'], "_")),
        };
        self.last_good().join(name)
    }
}

impl Store for StateDirectory {
    fn keep(&self, good: &LastGood) -> Result<(), String> {
        self.save_owner(good).map_err(|e| self.refusal(&e))
    }

    fn forget(&self, owner: &Owner) -> Result<(), String> {
        self.remove_owner(owner).map_err(|e| self.refusal(&e))
    }
}

/// This boot's id.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Reads a JSON file of bounded size; `None` where there is none.
///
/// # Errors
/// When it cannot be read or makes no sense.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from)
}

/// Writes a JSON file whole or not at all.
///
/// # Errors
/// When the disk refuses.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let new = path.with_extension("new");
    let written =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_data()
        });
    if let Err(e) = written.and_then(|()| fs::rename(&new, path)) {
        // Half a file would keep a full disk full.
        let _ = fs::remove_file(&new);
        return Err(e);
    }
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn put_aside(path: &Path, why: &io::Error) {
    let aside = path.with_extension("broken");
    error!(file = %path.display(), error = %why, "the file is not valid; it is renamed to {}", aside.display());
    if let Err(e) = fs::rename(path, &aside) {
        error!(file = %path.display(), error = %e, "the file cannot be renamed");
    }
}

#[cfg(test)]
mod tests {
    use brattice_model::Source;

    use super::*;

    #[test]
    fn state_survives_and_broken_files_are_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        assert_eq!(directory.load().unwrap(), State::default());
        let state = State { revision: 7, boot_id: "x".into(), ..State::default() };
        directory.save(&state).unwrap();
        assert_eq!(directory.load().unwrap(), state);
        fs::write(root.path().join("state.json"), "{ broken").unwrap();
        assert_eq!(directory.load().unwrap(), State::default());
        assert!(root.path().join("state.broken").exists());
    }

    #[test]
    fn a_directory_that_was_deleted_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(&root.path().join("state")).unwrap();
        let state = State { revision: 7, ..State::default() };
        let good = LastGood { owner: Owner::Operator, revision: 3, sources: Vec::new() };
        fs::remove_dir_all(root.path().join("state")).unwrap();
        directory.save_owner(&good).unwrap();
        fs::remove_dir_all(root.path().join("state")).unwrap();
        directory.save(&state).unwrap();
        assert_eq!(directory.load().unwrap(), state);
    }

    #[test]
    fn another_version_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        fs::write(root.path().join("state.json"), r#"{"schema": 2, "other": true}"#).unwrap();
        assert!(matches!(directory.load(), Err(StateError::Schema { found: 2, .. })));
        assert!(root.path().join("state.json").exists());
    }

    #[test]
    fn owners_survive() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        let owners = [Owner::Operator, Owner::Account("operator2".into()), Owner::Account("shop".into())];
        for owner in &owners {
            let sources = vec![Source { path: "a.yaml".into(), text: owner.to_string() }];
            directory.save_owner(&LastGood { owner: owner.clone(), revision: 1, sources }).unwrap();
        }
        let loaded = directory.load_owners();
        assert_eq!(loaded.len(), 3);
        assert_eq!(loaded[&owners[2]].sources[0].text, "shop");
        directory.remove_owner(&owners[2]).unwrap();
        directory.remove_owner(&owners[2]).unwrap();
        fs::write(root.path().join("last-good/account-pay.json"), "junk").unwrap();
        assert_eq!(directory.load_owners().len(), 2);
    }
}
