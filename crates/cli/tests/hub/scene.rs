//! A person with a hub in reach.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::Device;

use super::{Cut, Hub, Request};
use crate::base::{Inputs, checkpoint};

pub const BASE: &str = "stabilityai/sd-turbo";
pub const PREDICTOR: &str = "OAOA/InvSR";
pub const UNET: &str = "stabilityai/sd-turbo/unet/diffusion_pytorch_model.safetensors";
pub const RELEASED: &str = "noise_predictor_sd_turbo_v5.pth";

/// Where the UNet lies while it is fetched.
pub const PART: &str = "pulled.pull/base/unet/diffusion_pytorch_model.safetensors.part";
/// How long a program on a busy machine may take to write what it was sent.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A hub with both parts of a small model, and an empty folder to pull into.
pub struct Scene {
    folder: tempfile::TempDir,
    pub inputs: Inputs,
    pub predictor: PathBuf,
    pub hub: Hub,
}

impl Scene {
    /// Breaks the next transfer of the UNet's weights.
    pub fn cut(&self, cut: Cut) {
        self.hub.state().cuts.insert(UNET.to_owned(), cut);
    }

    pub fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::make(&folder.path().join("published"));
        fs::write(inputs.base.join("LICENSE.md"), "the base's terms").unwrap();
        let tensors = candle_core::safetensors::load(&inputs.predictor, &Device::Cpu).unwrap();
        let tensors: Vec<_> = tensors.into_iter().collect();
        let predictor = folder.path().join(RELEASED);
        checkpoint::write(&predictor, &checkpoint::bare(&tensors), &tensors);
        let licence = folder.path().join("LICENSE");
        fs::write(&licence, "the predictor's terms").unwrap();
        let hub = Hub::start();
        hub.publish(BASE, &inputs.base);
        hub.publish(PREDICTOR, &predictor);
        hub.publish(PREDICTOR, &licence);
        Self {
            folder,
            inputs,
            predictor,
            hub,
        }
    }

    pub fn config(&self) -> PathBuf {
        self.inputs.predictor.with_file_name("config.json")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upres"));
        command
            .current_dir(self.folder.path())
            .args(["models"])
            .args(args)
            .env("HF_ENDPOINT", &self.hub.url)
            .env("NO_PROXY", "127.0.0.1")
            .env_remove("HF_TOKEN")
            .env_remove("UPRES_MODEL_DIR")
            .env_remove("UPRES_CONFIG")
            .stdin(Stdio::null());
        command
    }

    pub fn pull_command(&self) -> Command {
        let mut command = self.command(&["pull", "-o", "pulled", "--accept-licences"]);
        command.arg("--noise-predictor-config").arg(self.config());
        command
    }

    pub fn pull(&self) -> Output {
        self.pull_command().output().unwrap()
    }

    /// Runs a pull up to the point where the hub holds the connection, and kills it there.
    pub fn pull_until_it_is_killed(&self) {
        let mut run = self.pull_command().stderr(Stdio::null()).spawn().unwrap();
        self.hub.wait_until_it_holds();
        let part = self.path(PART);
        wait_until(|| fs::metadata(&part).is_ok_and(|part| part.len() > 0));
        run.kill().unwrap();
        run.wait().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The requests for a large file's bytes.
    pub fn transfers(&self, name: &str) -> Vec<Request> {
        let state = self.hub.state();
        let path = format!("/{name}");
        let of_it = |request: &&Request| request.to_network && request.path.starts_with(&path);
        state.requests.iter().filter(of_it).cloned().collect()
    }
}

/// Returns once `holds`, which it must before the deadline.
#[track_caller]
pub fn wait_until(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[track_caller]
pub fn assert_failed(output: &Output, code: i32, words: &[&str]) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for word in words {
        assert!(told.contains(word), "{told:?} does not say {word:?}");
    }
}
