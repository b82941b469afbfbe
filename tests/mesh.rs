//! Five processes of the example `mesh`: one is killed under load and started again.
//!
//! `cargo test` builds the examples first; with `--test mesh` it does not.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// What the nodes said last of whom they see, and everything they said.
#[derive(Default)]
struct Heard {
    sees: HashMap<String, Vec<String>>,
    all: Vec<String>,
}

#[derive(Clone, Default)]
struct Log {
    shared: Arc<(Mutex<Heard>, Condvar)>,
}

impl Log {
    fn follow(&self, child: &mut Child) {
        let (lines, log) = (BufReader::new(child.stdout.take().unwrap()).lines(), self.clone());
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut heard = log.shared.0.lock().unwrap();
                if let Some((name, seen)) = line.split_once(" sees ") {
                    let seen = seen.split_whitespace().map(str::to_owned).collect();
                    heard.sees.insert(name.to_owned(), seen);
                }
                heard.all.push(line);
                log.shared.1.notify_all();
            }
        });
    }

    /// Waits until it holds of what the nodes see; a minute at most.
    fn until(&self, what: &str, holds: impl Fn(&HashMap<String, Vec<String>>) -> bool) {
        self.until_heard(what, |heard| holds(&heard.sees));
    }

    fn until_heard(&self, what: &str, holds: impl Fn(&Heard) -> bool) {
        let (heard, news) = &*self.shared;
        let patience = Duration::from_secs(60);
        let wait = news.wait_timeout_while(heard.lock().unwrap(), patience, |heard| !holds(heard));
        let (heard, timeout) = wait.unwrap();
        assert!(!timeout.timed_out(), "not {what}:\n{}", heard.all.join("\n"));
    }

    fn lines(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().all.clone()
    }
}

/// The nodes, killed with this.
struct Nodes {
    children: Vec<Child>,
    addresses: Vec<String>,
    log: Log,
}

impl Nodes {
    fn start(&self, number: usize) -> Child {
        let mut path = env::current_exe().unwrap();
        path.pop();
        path.pop();
        path.push("examples");
        path.push(format!("mesh{}", env::consts::EXE_SUFFIX));
        assert!(path.exists(), "build the examples first: no {}", path.display());
        let others: Vec<_> = (0..self.addresses.len()).filter(|other| *other != number).collect();
        let others: Vec<_> = others.into_iter().map(|other| &*self.addresses[other]).collect();
        let mut child = Command::new(path)
            .args(["node", &format!("n{number}"), "--listen", &self.addresses[number]])
            .args(["--peers", &others.join(","), "--every", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        self.log.follow(&mut child);
        child
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_node_that_is_killed_is_missed_and_welcomed_back() {
    // Ports that were free a moment ago.
    let listeners: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = listeners.iter().map(|it| it.local_addr().unwrap().to_string()).collect();
    drop(listeners);
    let mut nodes = Nodes { children: Vec::new(), addresses, log: Log::default() };
    // Everyone dials everyone: all sessions are dialled from both sides.
    for number in 0..5 {
        let child = nodes.start(number);
        nodes.children.push(child);
    }
    let log = nodes.log.clone();
    let whole = |sees: &HashMap<String, Vec<String>>| {
        (0..5).all(|number| sees.get(&format!("n{number}")).is_some_and(|seen| seen.len() == 4))
    };
    log.until("whole", whole);
    let busy = |heard: &Heard| heard.all.iter().filter(|it| it.contains("a hundred times")).count();
    log.until_heard("busy", |heard| busy(heard) == 5);
    let before = log.lines().len();

    nodes.children[4].kill().unwrap();
    nodes.children[4].wait().unwrap();
    log.until("without the killed one", |sees| {
        (0..4).all(|number| sees[&format!("n{number}")].len() == 3)
    });
    log.shared.0.lock().unwrap().sees.remove("n4");
    let child = nodes.start(4);
    nodes.children[4] = child;
    log.until("whole again", whole);
    log.until_heard("busy again", |heard| busy(heard) == 6);

    // The others have missed nobody else, and nobody but the killed one was out of reach.
    for line in &log.lines()[before..] {
        if let Some((name, seen)) = line.split_once(" sees ")
            && name != "n4"
        {
            let others = (0..4).map(|number| format!("n{number}")).filter(|other| other != name);
            let seen: Vec<_> = seen.split_whitespace().collect();
            assert!(others.into_iter().all(|other| seen.contains(&&*other)), "{line}");
        }
        assert!(!line.contains("lost a call to") || line.starts_with("n4 "), "{line}");
    }
}
