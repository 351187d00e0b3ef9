//! A browser's two WebSockets, as the page opens them: the screen by RFB (RFC 6143), and the serial line.

use std::fmt::Display;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::launcher::Launcher;
use crate::{Error, at};

const PAGE: &str = "127.0.0.1:6080";
/// A page asks again as soon as it has painted; a screen that stands still answers nothing.
const LOOK: Duration = Duration::from_millis(200);

/// Both, until [`Self::end`].
pub struct Viewers {
    enough: Arc<AtomicBool>,
    screen: JoinHandle<Result<u64, Error>>,
    serial: JoinHandle<Result<u64, Error>>,
}

impl Viewers {
    /// A screen that showed nothing was no viewer.
    pub fn end(self) -> Result<(), Error> {
        self.enough.store(true, Ordering::Relaxed);
        let gone = |_| Error::Step("a viewer has ended".into());
        let octets = self.screen.join().map_err(gone)??;
        self.serial.join().map_err(gone)??;
        if octets < 100_000 {
            return Err(Error::Step(format!("the screen was of {octets} octets")));
        }
        Ok(())
    }
}

pub fn both(launcher: &Launcher) -> Result<Viewers, Error> {
    let enough = Arc::new(AtomicBool::new(false));
    let mut screen = Socket::open(launcher, "/screen", &enough)?;
    let serial = Socket::open(launcher, "/serial", &enough)?;
    screen.shake_hands()?;
    Ok(Viewers {
        enough,
        screen: std::thread::spawn(|| screen.watch()),
        serial: std::thread::spawn(|| serial.read()),
    })
}

struct Socket {
    socket: WebSocket<TcpStream>,
    /// Came and was not taken yet.
    kept: Vec<u8>,
    enough: Arc<AtomicBool>,
}

impl Socket {
    fn open(launcher: &Launcher, path: &str, enough: &Arc<AtomicBool>) -> Result<Self, Error> {
        let stream = launcher.connect(PAGE)?;
        let failed = |error: &dyn Display| Error::Step(format!("{path}: {error}"));
        let mut request =
            format!("ws://{PAGE}{path}").into_client_request().map_err(|error| failed(&error))?;
        let origin = format!("http://{PAGE}").parse();
        request.headers_mut().insert("Origin", origin.map_err(|error| failed(&error))?);
        let (socket, _) = tungstenite::client(request, stream).map_err(|error| failed(&error))?;
        at("bounding a viewer", socket.get_ref().set_read_timeout(Some(LOOK)))?;
        Ok(Self { socket, kept: Vec::new(), enough: Arc::clone(enough) })
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let message = Message::binary(bytes.to_vec());
        self.socket.send(message).map_err(|error| Error::Step(format!("the screen: {error}")))
    }

    /// What has come, if anything did in a while.
    fn some(&mut self) -> Result<Option<usize>, Error> {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        match self.socket.read() {
            Ok(message) => Ok(Some(message.into_data().len())),
            Err(tungstenite::Error::Io(error)) if matches!(error.kind(), WouldBlock | TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(Error::Step(format!("a viewer: {error}"))),
        }
    }

    /// Exactly so many octets.
    fn take(&mut self, octets: usize) -> Result<Vec<u8>, Error> {
        while self.kept.len() < octets {
            match self.socket.read() {
                Ok(message) => self.kept.extend_from_slice(&message.into_data()),
                Err(error) => return Err(Error::Step(format!("the screen: {error}"))),
            }
        }
        let rest = self.kept.split_off(octets);
        Ok(std::mem::replace(&mut self.kept, rest))
    }

    /// RFC 6143 §7.1, §7.3: version, no authentication, a shared screen.
    fn shake_hands(&mut self) -> Result<(), Error> {
        at("bounding a viewer", self.socket.get_ref().set_read_timeout(Some(super::PATIENCE)))?;
        let version = self.take(12)?;
        self.say(&version)?;
        let kinds = self.take(1)?;
        self.take(kinds.first().map_or(0, |kinds| usize::from(*kinds)))?;
        self.say(&[1])?;
        self.take(4)?;
        self.say(&[1])?;
        self.take(20)?;
        let length = self.take(4)?;
        let length = length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
        self.take(length)?;
        at("bounding a viewer", self.socket.get_ref().set_read_timeout(Some(LOOK)))
    }

    /// Asks for all of the screen, then for what changes; octets that came.
    fn watch(mut self) -> Result<u64, Error> {
        let request = |incremental| [3, incremental, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        self.say(&request(0))?;
        let mut octets = 0;
        while !self.enough.load(Ordering::Relaxed) {
            match self.some()? {
                Some(read) => octets += u64::try_from(read).unwrap_or(0),
                None => self.say(&request(1))?,
            }
        }
        Ok(octets)
    }

    fn read(mut self) -> Result<u64, Error> {
        let mut octets = 0;
        while !self.enough.load(Ordering::Relaxed) {
            octets += self.some()?.and_then(|read| u64::try_from(read).ok()).unwrap_or(0);
        }
        Ok(octets)
    }
}
