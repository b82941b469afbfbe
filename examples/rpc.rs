//! Remote procedure calls in JSON over TCP: a room where people talk.
//!
//! ```sh
//! cargo run --example rpc --features json,tokio -- serve 127.0.0.1:4100
//! cargo run --example rpc --features json,tokio -- say 127.0.0.1:4100 ann "hello there"
//! cargo run --example rpc --features json,tokio -- tail 127.0.0.1:4100
//! cargo run --example rpc --features json,tokio -- chat 127.0.0.1:4100 bob
//! cargo run --example rpc --features json,tokio -- health 127.0.0.1:4100
//! ```
//!
//! `say` is one message each way, `tail` one there and many back, `chat` many both ways: what you
//! type goes to the room, what is said there is printed.

mod support;

use std::{
    collections::VecDeque,
    env,
    error::Error,
    io,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use support::with_causes;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::broadcast,
};
use trunkline::{
    Config,
    rpc::{
        Client, ClientBuilder, Code, Connection, Context, Fixed, Node, Receiver, Router, Server,
        Status, codec::Json,
    },
    runtime::Runtime,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    who: String,
    text: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    /// How many lines the room has heard.
    lines: usize,
}

const USAGE: &str = "\
usage: rpc serve ADDR           a room, until Ctrl-C
       rpc say ADDR WHO TEXT    says one line
       rpc tail ADDR            prints what is said, from the last lines on
       rpc chat ADDR WHO        both: what you type goes to the room
       rpc health ADDR          asks the server how it is";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["serve", addr] => serve(addr).await,
        ["say", addr, who, text] => say(addr, who, text).await,
        ["tail", addr] => tail(addr).await,
        ["chat", addr, who] => chat(addr, who).await,
        ["health", addr] => health(addr).await,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rpc: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

// The server.

#[derive(Clone)]
struct Room {
    lines: Arc<Mutex<VecDeque<Line>>>,
    news: broadcast::Sender<Line>,
}

impl Room {
    fn new() -> Self {
        Self { lines: Arc::default(), news: broadcast::channel(256).0 }
    }

    fn hear(&self, line: Line) -> Result<Said, Status> {
        if line.text.trim().is_empty() {
            return Err(Status::new(Code::BadRequest, "say something"));
        }
        println!("{}: {}", line.who, line.text);
        let lines = {
            let mut lines =
                self.lines.lock().map_err(|_| Status::new(Code::Internal, "poisoned"))?;
            lines.push_back(line.clone());
            if lines.len() > 100 {
                lines.pop_front();
            }
            lines.len()
        };
        // Nobody may be listening.
        let _ = self.news.send(line);
        Ok(Said { lines })
    }

    /// What was said, and what will be.
    fn follow(&self) -> impl Stream<Item = Result<Line, Status>> + Send + use<> {
        let news = self.news.subscribe();
        let old: Vec<_> =
            self.lines.lock().map(|l| l.iter().cloned().collect()).unwrap_or_default();
        let news = stream::unfold(news, |mut news| async move {
            match news.recv().await {
                Ok(line) => Some((Ok(line), news)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text = format!("too slow: {missed} lines were missed");
                    Some((Err(Status::new(Code::Busy, text)), news))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        stream::iter(old.into_iter().map(Ok)).chain(news)
    }
}

fn router(room: &Room) -> Result<Router<Json>, Box<dyn Error>> {
    let mut router = Router::json();
    let (say, tail, chat) = (room.clone(), room.clone(), room.clone());
    router
        .unary("Room.Say", move |_ctx, line: Line| {
            let room = say.clone();
            async move { room.hear(line) }
        })?
        .server_streaming("Room.Tail", move |_ctx: Context, (): ()| {
            let room = tail.clone();
            async move { Ok(room.follow()) }
        })?
        .bidirectional("Room.Chat", move |_ctx, said: Receiver<Line, Json>| {
            let room = chat.clone();
            async move {
                let news = room.follow();
                // What is said goes to the room, and comes back with its news.
                let heard = said.filter_map(move |line| {
                    let heard = line.and_then(|line| room.hear(line));
                    async move { heard.err().map(Err) }
                });
                // Who has nothing more to say has left.
                let left = stream::once(async { Err(Status::new(Code::Cancelled, "you left")) });
                Ok(stream::select(news, heard.chain(left)))
            }
        })?
        .with_debug()?;
    Ok(router)
}

async fn serve(addr: &str) -> Result<(), Box<dyn Error>> {
    let runtime = trunkline::tokio::runtime();
    let server = Server::new(router(&Room::new())?, &runtime);
    let listener = TcpListener::bind(addr).await?;
    println!("listening on {}", listener.local_addr()?);
    let listener = Arc::new(listener);
    tokio::spawn(server.clone().listen(move || {
        let listener = listener.clone();
        async move {
            let (tcp, remote) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            let connection = Connection {
                local_addr: Some(tcp.local_addr()?.to_string()),
                remote_addr: Some(remote.to_string()),
                peer: None,
            };
            Ok::<_, io::Error>((trunkline::tokio::server(tcp, Config::default()), connection))
        }
    }));
    tokio::signal::ctrl_c().await?;
    println!("shutting down: {:?}", server.stats());
    server.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

// The client.

type JsonClient = Client<trunkline::rpc::Retry<trunkline::rpc::Channel>, Json>;

fn connect(addr: &str) -> JsonClient {
    let runtime: Runtime = trunkline::tokio::runtime();
    let dial = |node: &Node| {
        let addr = node.address.to_string();
        async move {
            let tcp = TcpStream::connect(addr).await?;
            tcp.set_nodelay(true)?;
            Ok::<_, io::Error>(trunkline::tokio::client(tcp, Config::default()))
        }
    };
    ClientBuilder::new(&runtime, dial).resolve(Fixed::new([addr.to_owned()])).build().json()
}

async fn say(addr: &str, who: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let line = Line { who: who.into(), text: text.into() };
    let call = connect(addr).call::<_, Said>("Room.Say", &line).await?;
    println!("heard; {} lines so far", call.lines);
    Ok(())
}

async fn tail(addr: &str) -> Result<(), Box<dyn Error>> {
    let client = connect(addr);
    let mut lines = client.request("Room.Tail").server_streaming::<_, Line>(&()).await?;
    while let Some(line) = lines.next().await {
        let line = line?;
        println!("{}: {}", line.who, line.text);
    }
    Ok(())
}

async fn chat(addr: &str, who: &str) -> Result<(), Box<dyn Error>> {
    let client = connect(addr);
    let (mut sender, mut lines) = client.request("Room.Chat").bidirectional::<Line, Line>().await?;
    let who = who.to_owned();
    let typing = tokio::spawn(async move {
        let mut typed = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(text)) = typed.next_line().await {
            sender.send(&Line { who: who.clone(), text }).await?;
        }
        sender.finish().await
    });
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => println!("{}: {}", line.who, line.text),
            Err(status) if status.code() == Code::Cancelled => break,
            Err(status) => return Err(status.into()),
        }
    }
    typing.abort();
    Ok(())
}

async fn health(addr: &str) -> Result<(), Box<dyn Error>> {
    let health: serde_json::Value = connect(addr).call("Debug.Health", &()).await?;
    println!("{health}");
    Ok(())
}
