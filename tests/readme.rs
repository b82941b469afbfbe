//! What the documents say of the crate is so: fragments of README compile and run here (its whole
//! programs are doc tests), its commands name examples with the features they need, links lead
//! somewhere, and every rule that is cited exists.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

const README: &str = include_str!("../README.md");

/// The fragments, word for word.
#[cfg(feature = "tokio")]
#[tokio::test]
async fn five_lines_bring_back_what_was_sent() -> Result<(), Box<dyn std::error::Error>> {
    use ::tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use trunkline::Config;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    ::tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let session = trunkline::tokio::server(tcp, Config::default());
        while let Some(mut stream) = session.accept().await {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let mut reply = Vec::new();
    #[rustfmt::skip]
    {
        let session = trunkline::tokio::client(TcpStream::connect(addr).await?, Config::default());
        let mut stream = session.open().await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;                  // FIN; the other direction stays open
        stream.read_to_end(&mut reply).await?;
    };
    assert_eq!(reply, b"hello");
    Ok(())
}

#[test]
fn the_fragments_are_those_that_are_compiled_here() {
    let here = squeezed(include_str!("readme.rs"));
    let fragments: Vec<&str> = blocks("```rust,ignore\n").collect();
    assert!(!fragments.is_empty());
    for fragment in fragments {
        assert!(here.contains(&squeezed(fragment)), "nobody compiles this:\n{fragment}");
    }
}

#[test]
fn commands_name_examples_and_the_features_they_need() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut seen = 0;
    for command in README.split("cargo run ").skip(1) {
        let command = command.split(['`', '\n']).next().unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        let after = |flag| {
            let at = words.iter().position(|word| *word == flag)?;
            words.get(at + 1).copied()
        };
        let Some(example) = after("--example") else { continue };
        seen += 1;
        assert!(root().join(format!("examples/{example}.rs")).exists(), "{command}");
        let given: HashSet<&str> = after("--features").unwrap_or_default().split(',').collect();
        let entry = manifest.split(&format!("[[example]]\nname = \"{example}\"\n")).nth(1);
        let entry = entry.and_then(|entry| entry.split("[[").next()).unwrap_or_default();
        let needed = entry.split_once("required-features").map_or("", |(_, rest)| rest);
        for feature in needed.split(']').next().unwrap().split('"').skip(1).step_by(2) {
            assert!(given.contains(feature) || given.contains("full"), "{command}: {feature}");
        }
    }
    assert!(seen > 5, "only {seen} commands were looked at");
}

#[test]
fn links_lead_somewhere() {
    for document in ["README.md", "CHANGELOG.md", "spec.md", "benches/versus/README.md"] {
        let path = root().join(document);
        // The package leaves out the benchmarks.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let outside = link.contains("://") || file.is_empty();
            let left_out = file.starts_with("benches/") && !root().join("benches/versus").exists();
            let target = path.parent().unwrap().join(file);
            assert!(outside || left_out || target.exists(), "{document}: {link}");
        }
    }
}

#[test]
fn every_rule_that_is_cited_exists() {
    let spec = fs::read_to_string(root().join("spec.md")).unwrap();
    let rules: HashSet<&str> = spec.lines().filter_map(rule_of).collect();
    assert!(rules.len() > 300, "only {} rules were found", rules.len());
    let mut files = vec![root().join("README.md"), root().join("spec.md")];
    for folder in ["src", "tests", "examples"] {
        sources(&root().join(folder), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for cited in text.split('§').skip(1) {
            let end = cited.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(cited.len());
            let rule = cited[..end].trim_end_matches('.');
            assert!(rule.is_empty() || rules.contains(rule), "{}: §{rule}", file.display());
        }
    }
}

/// The number of the section or rule that a line of `spec.md` begins: `## §3`, `- **3.1.2**` or
/// `| 12.3 |`.
fn rule_of(line: &str) -> Option<&str> {
    let heading = line.trim_start_matches('#').trim_start().strip_prefix('§');
    let item = line.trim_start_matches("- ").strip_prefix("**");
    let row = line.strip_prefix("| ");
    let rest = heading.or(item).or(row)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('.')).filter(|rule| !rule.is_empty())
}

fn blocks(fence: &str) -> impl Iterator<Item = &'static str> {
    README.split(fence).skip(1).filter_map(|rest| rest.split("```").next())
}

/// Without the white space that differs between the two places.
fn squeezed(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false if path.extension().is_some_and(|ending| ending == "rs") => into.push(path),
            false => {}
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
