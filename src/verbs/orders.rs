//! What the page's buttons set going, as the verbs do: `berth suspend`, `backup` and `resize`.

use std::path::PathBuf;
use std::sync::Arc;

use berth::config;
use berth::control::{self, Suspender};
use berth::supervise::storage::{Done, Progress, Resized, Storage, Wanted};
use berth::web::{Order, Orders};
use tokio::sync::{oneshot, watch};

/// By the launcher's own hands.
pub fn orders(storage: Storage, suspender: Suspender) -> Orders {
    Arc::new(move |order, word| {
        let (storage, suspender) = (storage.clone(), suspender.clone());
        Box::pin(async move {
            match order {
                Order::Suspend => {
                    let suspended = control::suspended(&suspender).await;
                    suspended.map(|()| "The guest is suspended.".to_owned())
                }
                Order::Backup => back_up(storage, word).await,
                Order::Resize => resize(&storage, &word).await,
            }
        })
    })
}

/// Goes on to its end, which comes soon when the page leaves: it is cancelled then.
async fn back_up(storage: Storage, target: String) -> Result<String, String> {
    let target = PathBuf::from(target);
    if !target.is_absolute() {
        return Err("an absolute path is wanted, as in /backup/".to_owned());
    }
    let wanted = Wanted { target, incremental: false, speed: None };
    let (_here, gone) = oneshot::channel();
    let progress = watch::Sender::new(Progress::default());
    let work = tokio::spawn(async move { storage.back_up(&wanted, &progress, gone).await });
    let done = work.await.map_err(|error| error.to_string())?;
    done.map(|done| backed_up(&done)).map_err(|error| error.story())
}

fn backed_up(done: &Done) -> String {
    let paths: Vec<_> = done.files.iter().map(|file| file.path.display().to_string()).collect();
    let warnings: String = done.warnings.iter().map(|warning| format!(" ({warning})")).collect();
    format!("Backed up to {}{warnings}", paths.join(", "))
}

async fn resize(storage: &Storage, size: &str) -> Result<String, String> {
    let size = config::size(size).ok_or("a size is wanted, as in 20G")?;
    let resized = storage.resize(Some(size)).await.map_err(|error| error.story())?;
    let words = |Resized { disk, size_bytes, .. }: &Resized| format!("{disk} {size_bytes} bytes");
    Ok(resized.iter().map(words).collect::<Vec<_>>().join(", "))
}
