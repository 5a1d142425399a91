use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use brattice_model::Owner;

use super::*;

fn shop() -> Owner {
    Owner::Account("shop".into())
}

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("accounts/shop/sub")).unwrap();
    fs::create_dir_all(root.path().join("accounts/pay")).unwrap();
    fs::write(root.path().join("node.yaml"), "operator").unwrap();
    fs::write(root.path().join("blue.yml"), "blue").unwrap();
    fs::write(root.path().join("README.md"), "no policy").unwrap();
    fs::write(root.path().join(".node.yaml.swp"), "no policy").unwrap();
    fs::write(root.path().join("accounts/shop/a.yaml"), "a").unwrap();
    fs::write(root.path().join("accounts/shop/sub/b.yaml"), "b").unwrap();
    fs::write(root.path().join("accounts/pay/p.yaml"), "p").unwrap();
    root
}

fn paths(tree: &Tree, owner: &Owner) -> Vec<String> {
    tree.owners[owner].sources.as_ref().unwrap().iter().map(|source| source.path.clone()).collect()
}

/// Reads, and checks that no owner but `owner` has an error, which contains `text`.
#[track_caller]
fn only_error(root: &Path, owner: &Owner, text: &str) {
    let tree = read(root).unwrap();
    for (who, found) in &tree.owners {
        if who == owner {
            let errors = found.sources.as_ref().expect_err("an error").join("\n");
            assert!(errors.contains(text), "{errors:?} does not contain {text:?}");
        } else {
            assert!(found.sources.is_ok(), "{who}: {found:?}");
        }
    }
}

#[test]
fn ownership_is_by_place() {
    let root = tree();
    let tree = read(root.path()).unwrap();
    assert_eq!(paths(&tree, &Owner::Operator), ["blue.yml", "node.yaml"]);
    assert_eq!(paths(&tree, &shop()), ["accounts/shop/a.yaml", "accounts/shop/sub/b.yaml"]);
    assert_eq!(paths(&tree, &Owner::Account("pay".into())), ["accounts/pay/p.yaml"]);
    assert_eq!(tree.owners.len(), 3);
    assert!(!tree.is_empty());
}

#[test]
fn a_missing_directory_and_a_file_in_its_place() {
    let root = tree();
    assert!(matches!(read(&root.path().join("nowhere")), Err(ReadError::Missing(_))));
    assert!(matches!(read(&root.path().join("node.yaml")), Err(ReadError::Unreadable { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(read(empty.path()).unwrap().is_empty());
}

#[test]
fn a_huge_file_is_its_owners_error() {
    let root = tree();
    let file = File::create(root.path().join("accounts/shop/huge.yaml")).unwrap();
    file.set_len(100 * 1024 * 1024).unwrap();
    only_error(root.path(), &shop(), "accounts/shop/huge.yaml: 104857600 bytes");
}

#[test]
fn not_utf8_is_its_owners_error() {
    let root = tree();
    fs::write(root.path().join("accounts/shop/x.yaml"), b"ab\xff").unwrap();
    only_error(root.path(), &shop(), "x.yaml: not UTF-8 from byte 2 on (line 1): most likely it is Latin-1");
    fs::write(root.path().join("accounts/shop/x.yaml"), b"\xff\xfek\0i\0").unwrap();
    only_error(root.path(), &shop(), "iconv -f UTF-16 -t UTF-8");
}

#[test]
fn symlink_loops_end() {
    let root = tree();
    symlink("loop.yaml", root.path().join("accounts/shop/loop.yaml")).unwrap();
    only_error(root.path(), &shop(), "a symlink loop");
    fs::remove_file(root.path().join("accounts/shop/loop.yaml")).unwrap();
    symlink(".", root.path().join("accounts/shop/again")).unwrap();
    symlink("..", root.path().join("accounts/shop/sub/up")).unwrap();
    only_error(root.path(), &shop(), "the folder contains itself");
}

#[test]
fn symlinks_do_not_lead_out() {
    let root = tree();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret").unwrap();
    for target in [secret.path(), Path::new("../pay/p.yaml"), Path::new("/etc/hostname"), Path::new("/proc/self/cwd")] {
        let link = root.path().join("accounts/shop/link.yaml");
        symlink(target, &link).unwrap();
        only_error(root.path(), &shop(), "leads out of its owner's folder");
        fs::remove_file(link).unwrap();
    }
    let folder = root.path().join("accounts/shop/folder");
    symlink("../pay", &folder).unwrap();
    only_error(root.path(), &shop(), "leads out of its owner's folder");
    fs::remove_file(folder).unwrap();
    let link = root.path().join("mine.yaml");
    symlink("accounts/shop/a.yaml", &link).unwrap();
    only_error(root.path(), &Owner::Operator, "a symlink into the accounts' folders");
    fs::remove_file(link).unwrap();
    symlink("accounts", root.path().join("others")).unwrap();
    only_error(root.path(), &Owner::Operator, "a symlink into the accounts' folders");
}

#[test]
fn an_account_is_no_symlink() {
    let root = tree();
    symlink("shop", root.path().join("accounts/copy")).unwrap();
    only_error(root.path(), &Owner::Account("copy".into()), "may not be a symlink");
}

#[test]
fn configmap_style_swaps_work() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("..2026/accounts/shop")).unwrap();
    fs::write(root.path().join("..2026/node.yaml"), "operator").unwrap();
    fs::write(root.path().join("..2026/accounts/shop/a.yaml"), "a").unwrap();
    symlink("..2026", root.path().join("..data")).unwrap();
    symlink("..data/node.yaml", root.path().join("node.yaml")).unwrap();
    symlink("..data/accounts", root.path().join("accounts")).unwrap();
    let tree = read(root.path()).unwrap();
    assert_eq!(paths(&tree, &Owner::Operator), ["node.yaml"]);
    assert_eq!(paths(&tree, &shop()), ["accounts/shop/a.yaml"]);
}

#[test]
fn odd_files() {
    let root = tree();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("accounts/shop/fifo.yaml"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    only_error(root.path(), &shop(), "fifo.yaml: neither a file nor a folder");
    fs::remove_file(root.path().join("accounts/shop/fifo.yaml")).unwrap();
    fs::write(root.path().join("accounts/stray.yaml"), "x").unwrap();
    only_error(root.path(), &Owner::Operator, "lies in no account's folder");
    fs::remove_file(root.path().join("accounts/stray.yaml")).unwrap();
    fs::create_dir(root.path().join("vpcs")).unwrap();
    fs::write(root.path().join("vpcs/blue.yaml"), "x").unwrap();
    only_error(root.path(), &Owner::Operator, "vpcs/blue.yaml: belongs to no owner");
    fs::remove_dir_all(root.path().join("vpcs")).unwrap();
    fs::create_dir(root.path().join("accounts/operator")).unwrap();
    only_error(root.path(), &Owner::Operator, "accounts/operator: ");
}

#[test]
fn too_many_and_too_deep() {
    let root = tree();
    let mut deep = root.path().join("accounts/shop");
    for _ in 0..=MAX_DEPTH {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    only_error(root.path(), &shop(), "deeper than 8 folders");
    fs::remove_dir_all(root.path().join("accounts/shop/d")).unwrap();
    for n in 0..=MAX_FILES_PER_OWNER {
        fs::write(root.path().join(format!("accounts/shop/{n}.yaml")), "").unwrap();
    }
    only_error(root.path(), &shop(), "more than 4096 files");
}

#[test]
fn too_many_bytes() {
    let root = tree();
    let part = vec![b'#'; MAX_FILE_BYTES];
    for n in 0..MAX_BYTES_PER_OWNER / MAX_FILE_BYTES {
        // With the two of `tree`, one byte each.
        let part = if n == 0 { &part[2..] } else { &part[..] };
        fs::write(root.path().join(format!("accounts/shop/{n}.yaml")), part).unwrap();
    }
    assert!(read(root.path()).unwrap().owners[&shop()].sources.is_ok(), "as many as may be");
    fs::write(root.path().join("accounts/shop/z.yaml"), "#").unwrap();
    only_error(root.path(), &shop(), "more than 4194304 bytes of one owner");
}

#[test]
fn too_many_folders_and_folders_that_multiply() {
    let root = tree();
    // With `shop` itself and `sub`.
    for n in 0..MAX_FOLDERS - 2 {
        fs::create_dir(root.path().join(format!("accounts/shop/{n}"))).unwrap();
    }
    assert!(read(root.path()).unwrap().owners[&shop()].sources.is_ok(), "as many as may be");
    fs::create_dir(root.path().join("accounts/shop/more")).unwrap();
    only_error(root.path(), &shop(), "more than 256 folders");
    // Eight levels of ten links each to the next are a hundred million ways.
    fs::remove_dir_all(root.path().join("accounts/shop")).unwrap();
    for level in 0..MAX_DEPTH {
        let folder = root.path().join(format!("accounts/shop/{level}"));
        fs::create_dir_all(&folder).unwrap();
        for n in 0..10 {
            symlink(format!("../{}", level + 1), folder.join(n.to_string())).unwrap();
        }
    }
    let started = std::time::Instant::now();
    only_error(root.path(), &shop(), "more than 256 folders");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn names_that_would_forge_output() {
    let root = tree();
    fs::write(root.path().join("accounts/shop/a\u{1b}[2J\nb.yaml"), "a").unwrap();
    only_error(root.path(), &shop(), "a\u{fffd}[2J\u{fffd}b.yaml: its name has control characters");
}

#[test]
fn dangling_links() {
    let root = tree();
    symlink("nothing", root.path().join("accounts/shop/dangling.yaml")).unwrap();
    only_error(root.path(), &shop(), "points to nothing");
    fs::rename(root.path().join("accounts/shop/dangling.yaml"), root.path().join("accounts/shop/dangling")).unwrap();
    assert!(read(root.path()).unwrap().owners[&shop()].sources.is_ok());
}

#[test]
fn who_writes_and_what_changed_is_seen_of_each_owner() {
    let root = tree();
    let path = root.path().join("accounts/shop/sub/b.yaml");
    let look = |owner: &Owner| read(root.path()).unwrap().owners[owner].look.clone();
    let (first, others) = (look(&shop()), look(&Owner::Operator));
    assert_eq!(look(&shop()), first, "reading is no change");
    assert!((!first.unasked, first.open.as_slice()) == (true, &[]) && first.changed > None);
    // Open for writing, whether or not anything was written; a hidden file is ignored.
    let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let hidden = File::create(root.path().join("accounts/shop/.a.yaml.swp")).unwrap();
    assert_eq!(look(&shop()).open, ["accounts/shop/sub/b.yaml"]);
    assert_eq!(look(&Owner::Operator), others);
    drop((writer, hidden));
    let closed = look(&shop());
    assert!(closed.open.is_empty());
    // Whatever changes makes another look.
    let mut seen = vec![closed.stamp];
    let mut changed = |what: &str| {
        let stamp = look(&shop()).stamp;
        assert!(!seen.contains(&stamp), "{what}");
        seen.push(stamp);
    };
    fs::write(&path, "c").unwrap();
    changed("same size");
    fs::write(path.with_file_name("new.yaml"), "c").unwrap();
    changed("new");
    fs::rename(path.with_file_name("new.yaml"), &path).unwrap();
    changed("renamed over");
    fs::remove_file(&path).unwrap();
    changed("removed");
    assert_eq!(look(&Owner::Operator), others);
    // By a link as well.
    symlink("../a.yaml", &path).unwrap();
    let _writer = fs::OpenOptions::new().write(true).open(root.path().join("accounts/shop/a.yaml")).unwrap();
    assert_eq!(look(&shop()).open, ["accounts/shop/a.yaml", "accounts/shop/sub/b.yaml"]);
}

#[test]
fn files_that_look_as_if_they_were_meant_are_named() {
    let root = tree();
    let shop_folder = root.path().join("accounts/shop");
    for name in ["a.json", "a.yaml.bak", "b.YAML", "c.yml~", "README.md", "schema.json", "notes.txt", ".a.yaml.swp"] {
        fs::write(shop_folder.join(name), "x").unwrap();
    }
    fs::write(shop_folder.join("empty.yaml"), " \n").unwrap();
    let tree = read(root.path()).unwrap();
    let notes: Vec<String> = tree.owners[&shop()].notes.iter().map(ToString::to_string).collect();
    let all = notes.join("\n");
    assert_eq!(notes.len(), 5, "{all}");
    for (name, why) in [
        ("a.json", "JSON is YAML"),
        ("a.yaml.bak", "does not end with .yaml"),
        ("b.YAML", "not in lower case"),
        ("c.yml~", "does not end with .yaml"),
        ("empty.yaml", "it is empty"),
    ] {
        let is_reported =
            |note: &String| note.starts_with(&format!("accounts/shop/{name}:1:1: ")) && note.contains(why);
        assert!(notes.iter().any(is_reported), "{name}: {all}");
    }
    assert!(tree.owners[&Owner::Operator].notes.is_empty(), "README.md and swap files are nobody's business");
}
