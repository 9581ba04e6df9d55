//! A model hub on this machine: answers on a hub's paths, and hands large files out from a second
//! address, as a hub's content network does. It can be told to misbehave.

pub mod scene;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The commit that every branch stands for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Sends this much of a file and then holds or drops the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Drops it, once.
    Drop(usize),
    /// Holds it until the client is gone, once.
    Hold(usize),
}

/// What the hub does, and what it was asked.
#[derive(Default)]
pub struct State {
    /// By `owner/name/file`.
    files: HashMap<String, Vec<u8>>,
    /// By the same name.
    pub cuts: HashMap<String, Cut>,
    /// Content that is sent instead of the stated one.
    pub forged: HashMap<String, Vec<u8>>,
    /// Answers 503 so many times.
    pub busy: usize,
    /// Without this token it hands out nothing.
    pub token: Option<String>,
    /// Sends whole files, whatever is asked.
    pub ignores_ranges: bool,
    /// Leads back to where it came from.
    pub circular: bool,
    pub requests: Vec<Request>,
    holding: bool,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whether it came to the second address.
    pub to_network: bool,
    pub method: String,
    pub path: String,
    headers: HashMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A running hub. Its threads end with the test.
pub struct Hub {
    pub url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Hub {
    pub fn start() -> Self {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let addresses = listeners
            .each_ref()
            .map(|listener| format!("http://{}", listener.local_addr().expect("its address")));
        let [url, network] = addresses;
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        for (to_network, listener) in [false, true].into_iter().zip(listeners) {
            let (state, network) = (Arc::clone(&state), network.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, network) = (Arc::clone(&state), network.clone());
                    // A client that goes away ends its own connection only.
                    thread::spawn(move || answer(&stream, to_network, &state, &network));
                }
            });
        }
        Self { url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("no test panics with it")
    }

    /// Publishes the files below `folder`, or one file, as those of `repo`.
    pub fn publish(&self, repo: &str, path: &Path) {
        if path.is_file() {
            let name = path
                .file_name()
                .expect("a file has a name")
                .to_string_lossy();
            let bytes = std::fs::read(path).expect("it can be read");
            self.state().files.insert(format!("{repo}/{name}"), bytes);
            return;
        }
        for entry in path.read_dir().expect("a folder") {
            let entry = entry.expect("an entry").path();
            let name = entry
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if entry.is_dir() {
                self.publish(&format!("{repo}/{name}"), &entry);
            } else {
                self.publish(repo, &entry);
            }
        }
    }

    /// Puts other bytes in a file's place.
    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let old = self.state().files.insert(name.to_owned(), bytes);
        assert!(old.is_some(), "{name} is published");
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        self.state().files[name].clone()
    }

    /// Returns once a connection is held half-way.
    pub fn wait_until_it_holds(&self) {
        let (lock, changed) = &*self.state;
        let state = lock.lock().expect("no test panics with it");
        let waited = changed.wait_while(state, |state| !state.holding);
        waited.expect("no test panics with it").holding = false;
    }
}

fn answer(
    stream: &TcpStream,
    to_network: bool,
    state: &(Mutex<State>, Condvar),
    network: &str,
) -> Option<()> {
    let request = read(stream, to_network)?;
    let mut held = state.0.lock().ok()?;
    held.requests.push(request.clone());
    let answer = if to_network {
        held.content(&request)
    } else {
        held.refer(&request, network)
    };
    drop(held);
    let mut stream = stream;
    stream.write_all(answer.head.as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    let sent = answer
        .cut
        .map_or(answer.body.len(), |(Cut::Drop(at) | Cut::Hold(at))| at);
    stream
        .write_all(&answer.body[..sent.min(answer.body.len())])
        .ok()?;
    if let Some(Cut::Hold(_)) = answer.cut {
        state.0.lock().ok()?.holding = true;
        state.1.notify_all();
        // Ends when the client closes the connection.
        let _ = BufReader::new(stream).read_line(&mut String::new());
    }
    Some(())
}

fn read(stream: &TcpStream, to_network: bool) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    Some(Request {
        to_network,
        method,
        path,
        headers,
    })
}

struct Answer {
    head: String,
    body: Vec<u8>,
    cut: Option<Cut>,
}

fn say(status: &str, headers: &[String], body: Vec<u8>) -> Answer {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for header in headers {
        head = format!("{head}{header}\r\n");
    }
    Answer {
        head: format!("{head}content-length: {}\r\n\r\n", body.len()),
        body,
        cut: None,
    }
}

impl State {
    /// The hub's own answer: small files at once or after a turn on the same host, large files by
    /// reference to the network.
    fn refer(&mut self, request: &Request, network: &str) -> Answer {
        if self.busy > 0 {
            self.busy -= 1;
            return say("503 Service Unavailable", &[], Vec::new());
        }
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if bearer.is_some() && bearer.as_deref() != request.header("authorization") {
            return say("401 Unauthorized", &[], b"Access is restricted.".to_vec());
        }
        if self.circular {
            return say(
                "302 Found",
                &[format!("location: {}", request.path)],
                Vec::new(),
            );
        }
        let turned = request.path.strip_prefix("/turn");
        let path = turned.unwrap_or(&request.path);
        // /owner/name/resolve/revision/file
        let parts: Vec<&str> = path.splitn(6, '/').collect();
        let [_, owner, name, "resolve", revision, file] = parts[..] else {
            return say("400 Bad Request", &[], Vec::new());
        };
        let name = format!("{owner}/{name}/{file}");
        let known = ["main", COMMIT].contains(&revision);
        let Some(bytes) = self.files.get(&name).filter(|_| known) else {
            return say("404 Not Found", &[], b"Entry not found".to_vec());
        };
        let commit = format!("x-repo-commit: {COMMIT}");
        if !is_large(&name) {
            if turned.is_none() {
                let location = format!("location: /turn{path}");
                return say(
                    "307 Temporary Redirect",
                    &[commit, location],
                    b"turn".to_vec(),
                );
            }
            // As Git names what is in it.
            let head = format!("blob {}\0", bytes.len());
            let digest = Sha1::new().chain_update(head).chain_update(bytes);
            let tag = format!("etag: \"{}\"", hex::encode(digest.finalize()));
            let sent = self.forged.get(&name).unwrap_or(bytes);
            return say("200 OK", &[commit, tag], sent.clone());
        }
        let headers = [
            commit,
            format!("x-linked-etag: \"{}\"", hex::encode(Sha256::digest(bytes))),
            format!("x-linked-size: {}", bytes.len()),
            format!("location: {network}/{name}?signature=secret"),
        ];
        say("302 Found", &headers, b"elsewhere".to_vec())
    }

    /// The network's answer: a file's bytes, from where they are asked.
    fn content(&mut self, request: &Request) -> Answer {
        let name = request.path.trim_start_matches('/');
        let name = name.split('?').next().unwrap_or_default().to_owned();
        let Some(bytes) = self
            .forged
            .get(&name)
            .or_else(|| self.files.get(&name))
            .cloned()
        else {
            return say("404 Not Found", &[], Vec::new());
        };
        let tag = format!("\"network-{}\"", &hex::encode(Sha256::digest(&bytes))[..8]);
        let range = request.header("range").filter(|_| !self.ignores_ranges);
        let range = range.filter(|_| request.header("if-range").is_none_or(|known| known == tag));
        let from = range.and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        let tag = format!("etag: {tag}");
        let mut answer = match from {
            None => say("200 OK", &[tag], bytes),
            Some(from) if from >= bytes.len() => say("416 Range Not Satisfiable", &[], Vec::new()),
            Some(from) => {
                let (last, all) = (bytes.len() - 1, bytes.len());
                let range = format!("content-range: bytes {from}-{last}/{all}");
                say("206 Partial Content", &[tag, range], bytes[from..].to_vec())
            }
        };
        answer.cut = self.cuts.remove(&name);
        answer
    }
}

/// What a hub keeps as large files.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".pth")
}
