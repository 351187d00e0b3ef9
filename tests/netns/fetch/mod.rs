//! Downloads from servers and by proxies that misbehave, with curl as the judge where it has an opinion.

mod final_answers;
mod proxies;
mod ranges;
mod secrets;
mod server;
mod tls;
mod turns;

use std::path::{Path, PathBuf};
use std::time::Duration;

use berth::config::{Checksum, Proxies, Url};
use berth::sys::image::{Access, Error, Origin, Request, Timing, fetch};
use sha2::{Digest, Sha256};

/// Impatient: tests do not wait as users do.
const QUICK: Timing = Timing {
    connect: Duration::from_secs(5),
    stall: Duration::from_secs(5),
    backoff: Duration::from_millis(5),
    tries: 4,
};

/// A disk image of so many octets, no two blocks of it alike, without partitions.
fn image(length: usize) -> Vec<u8> {
    let blocks = (0u32..).flat_map(|number| Sha256::digest(number.to_be_bytes()));
    let mut image: Vec<u8> = blocks.take(length).collect();
    image[446..510].fill(0);
    image[510..512].copy_from_slice(b"\x55\xaa");
    image
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The variables of an environment.
fn proxies(set: &[(&str, &str)]) -> Proxies {
    Proxies::read(|name| {
        set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

/// A directory that an image is fetched into.
struct Place {
    dir: tempfile::TempDir,
    proxies: Proxies,
    ca_file: Option<PathBuf>,
    checksum: Option<Checksum>,
    max_bytes: Option<u64>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, proxies: Proxies::NONE, ca_file: None, checksum: None, max_bytes: None }
    }

    /// The image has to be this one, from the first octet to the last.
    fn wanting(body: &[u8]) -> Self {
        Self { checksum: Some(Checksum::Sha256(Sha256::digest(body).to_vec())), ..Self::new() }
    }

    fn by(set: &[(&str, &str)]) -> Self {
        Self { proxies: proxies(set), ..Self::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn get(&self, from: &str) -> Result<(), Error> {
        let (from, target) = (url(from), self.path("base.img"));
        let request = Request {
            origin: Origin::Url(&from),
            target: &target,
            checksum: self.checksum.as_ref(),
            ca_file: self.ca_file.as_deref(),
            proxies: &self.proxies,
            timing: QUICK,
            max_bytes: self.max_bytes,
            access: Access::ALL,
        };
        fetch(&request, &mut |_| {})
    }

    fn image(&self) -> Vec<u8> {
        std::fs::read(self.path("base.img")).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What an earlier run left: so much of an image, of this URL and version.
fn leave_part(place: &Place, of: &Url, validator: &str, part: &[u8]) {
    leave_part_of_boot(
        place,
        of,
        validator,
        part,
        &read(Path::new("/proc/sys/kernel/random/boot_id")),
    );
}

fn leave_part_of_boot(place: &Place, of: &Url, validator: &str, part: &[u8], boot: &str) {
    leave(place, part, &format!("{}\n{validator}\n{boot}", of.fingerprint()));
}

fn leave(place: &Place, part: &[u8], note: &str) {
    std::fs::write(place.path(".base.img.part"), part).unwrap();
    std::fs::write(place.path(".base.img.part.from"), note).unwrap();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
