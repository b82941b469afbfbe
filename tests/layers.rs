//! The layers of the crate depend on each other in one direction only, and the sans-IO layers
//! name nothing of the world outside.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What each layer must not name. Tests inside the layers count too: they run on virtual time.
const FORBIDDEN: [(&str, &[&str]); 9] = [
    ("frame", &["crate::proto", "crate::session", "crate::stream", "crate::runtime"]),
    ("frame", OUTSIDE),
    ("proto", &["crate::session", "crate::stream", "crate::transport", "crate::tokio"]),
    ("proto", OUTSIDE),
    ("session", &["crate::exchange", "crate::rpc", "crate::sp"]),
    ("stream", &["crate::exchange", "crate::rpc", "crate::sp"]),
    ("exchange", &["crate::rpc", "crate::sp", "Instant::now", "std::thread"]),
    ("rpc", &["crate::sp", "Instant::now", "std::thread"]),
    ("runtime", &["crate::proto", "crate::session", "crate::stream"]),
];

const OUTSIDE: &[&str] = &[
    "Context<",
    "Waker",
    "Mutex",
    "AsyncRead",
    "AsyncWrite",
    "Instant::now",
    "SystemTime",
    "std::net",
    "std::thread",
];

#[test]
fn layers_point_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut looked_at = 0;
    for (layer, forbidden) in FORBIDDEN {
        for file in files_of(&src, layer) {
            let text = fs::read_to_string(&file).expect("a source file");
            looked_at += 1;
            for name in forbidden {
                // A test may read the clock once, to have a moment to start from.
                let allowed = *name == "Instant::now" && is_test(&file);
                assert!(allowed || !text.contains(name), "{} names {name}", file.display());
            }
        }
    }
    assert!(looked_at > 20, "the layers moved: only {looked_at} files were looked at");
}

/// `layer.rs` and everything below `layer/`.
fn files_of(src: &Path, layer: &str) -> Vec<PathBuf> {
    let mut files = vec![src.join(format!("{layer}.rs"))];
    let mut folders = vec![src.join(layer)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests")
}
