//! A server that answers by a script, octet by octet, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which one, from zero.
    pub number: usize,
    /// `GET /x HTTP/1.1`
    pub line: String,
    /// Name in lower case, and value.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where a `Range: bytes=N-` begins.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// A connection: TCP, or TLS on it.
pub trait Wire: Read + Write + Send {
    fn end(&mut self);
    /// For what goes through it as it is.
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

impl Wire for TcpStream {
    fn end(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
        // What is still on its way here would reset what is on its way there.
        let _ = self.read(&mut [0; 1024]);
    }

    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// The script gives each request its answer, head and body; then the connection is closed.
    pub fn new(script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", script)
    }

    pub fn on(address: &str, script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::wrapped(TcpListener::bind(address).unwrap(), |stream| Some(Box::new(stream)), script)
    }

    /// Ends with the test's process; each test has one of its own.
    pub fn wrapped(
        listener: TcpListener,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Wire>> + Send + Sync + 'static,
        script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let shared = Arc::new((wrap, script, seen.clone()));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    let (wrap, script, seen) = &*shared;
                    let Some(mut wire) = wrap(stream.unwrap()) else { return };
                    let Some(asked) = request(&mut *wire, seen) else { return };
                    if asked.line.starts_with("CONNECT ") {
                        let answer = script(&asked);
                        let _ = wire.write_all(&answer);
                        if answer.starts_with(b"HTTP/1.1 200") {
                            tunnel(wire.tcp().unwrap(), asked.path());
                        }
                        return;
                    }
                    let _ = wire.write_all(&script(&asked));
                    let _ = wire.flush();
                    wire.end();
                });
            }
        });
        Self { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|asked| asked.line).collect()
    }
}

fn request(wire: &mut dyn Wire, seen: &Mutex<Vec<Asked>>) -> Option<Asked> {
    // By octets: nothing of what comes after the head is taken from a tunnel.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        wire.read_exact(&mut octet).ok()?;
        head.push(octet[0]);
    }
    let mut lines = BufReader::new(&head[..]).lines().map(Result::unwrap);
    let line = lines.next()?;
    let headers = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let mut seen = seen.lock().unwrap();
    let asked = Asked { number: seen.len(), line, headers };
    seen.push(asked.clone());
    Some(asked)
}

/// Octets there and back between a client and whom it wants.
fn tunnel(client: &TcpStream, to: &str) {
    let server = TcpStream::connect(to).unwrap();
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    let there = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut server, mut client) = (server, client);
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Write);
    let _ = there.join();
}

/// An answer with its length.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One whose body ends after so many octets.
pub fn cut(status: &str, headers: &str, body: &[u8], after: usize) -> Vec<u8> {
    let mut answer = answer(status, headers, body);
    answer.truncate(answer.len() - body.len() + after.min(body.len()));
    answer
}

/// 206 with the octets from `from` to before `to`.
pub fn part(headers: &str, body: &[u8], from: usize, to: usize) -> Vec<u8> {
    let range = format!("{headers}content-range: bytes {from}-{}/{}\r\n", to - 1, body.len());
    answer("206 Partial Content", &range, &body[from..to])
}
