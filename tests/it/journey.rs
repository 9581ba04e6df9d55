//! A photo travels through the whole system, with the real network and several schedules.

use std::process::Command;

use journey_tests::{World, photo, program_path};
use reqwest::{Method, StatusCode, header};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn photos_come_back_four_times_the_size_and_as_the_command_line_makes_them()
-> anyhow::Result<()> {
    let mut world = World::plain("journey").await?;
    let model = world.folder().join("model");
    invsr::write_random_model(invsr::Size::Tiny, 7, &model)?;
    let model = model.display().to_string();
    let _worker = world.start_real_worker(&model).await?;
    world.store.put("in/photo.png", photo(70, 45)).await?;

    let mut digests = Vec::new();
    for timesteps in [vec![200], vec![250, 150, 50], vec![237, 61]] {
        let name: Vec<_> = timesteps.iter().map(u32::to_string).collect();
        let name = name.join("-");
        let id = world
            .submit(&json!({
                "input": world.store.uri("in/photo.png"),
                "output": world.store.uri(&format!("out/{name}.png")),
                "upscale": {"timesteps": timesteps, "tile": 64},
                "labels": {"schedule": name},
            }))
            .await?;
        let job = world.succeeds(&id).await?;
        assert_eq!(
            (&job["result"]["width"], &job["result"]["height"]),
            (&json!(280), &json!(180))
        );
        assert_eq!(job["upscale"]["timesteps"], json!(timesteps));
        assert_eq!(job["attempts"][0]["outcome"], "succeeded");
        assert_eq!(job["progress"]["tiles"], job["progress"]["tiles_total"]);
        assert!(job["timings"]["unet"].is_number(), "{job}");
        assert_eq!(
            job["warnings"].as_array().map(Vec::len),
            Some(usize::from(timesteps[0] == 237))
        );

        let queued = world
            .store
            .get(&format!("out/{name}.png"))
            .await?
            .expect("the result");
        let local = upscale_locally(&world, &model, &name)?;
        assert!(
            queued == local,
            "the queue and the command line made different bytes of {name}"
        );
        digests.push(job["result"]["sha256"].clone());
    }
    assert!(
        digests[0] != digests[1] && digests[1] != digests[2],
        "a schedule must show in the picture"
    );
    assert_eq!(world.store.open_uploads().await?, 0);
    Ok(())
}

fn upscale_locally(world: &World, model: &str, name: &str) -> anyhow::Result<Vec<u8>> {
    let input = world.folder().join("photo.png");
    std::fs::write(&input, photo(70, 45))?;
    let output = world.folder().join(format!("{name}.png"));
    let list = name.replace('-', ",");
    let done = Command::new(program_path("upres")?)
        .args([
            "upscale",
            "--model",
            model,
            "--tile",
            "64",
            "--timesteps",
            &list,
            "-o",
        ])
        .args([&output, &input])
        .output()?;
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(std::fs::read(output)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_by_version_and_its_result_fetched_by_link() -> anyhow::Result<()> {
    let mut world = World::plain("follow").await?;
    let id = world.submit_photo("a").await?;
    let path = format!("/v1/jobs/{id}");

    let first = world.request(Method::GET, &path).send().await?;
    let tag = first.headers()[header::ETAG].clone();
    assert_eq!(first.headers()[header::RETRY_AFTER], "1");
    let unchanged = world
        .request(Method::GET, &path)
        .header(header::IF_NONE_MATCH, &tag);
    assert_eq!(unchanged.send().await?.status(), StatusCode::NOT_MODIFIED);
    let early = world
        .request(Method::GET, &format!("{path}/result"))
        .send()
        .await?;
    assert_eq!(early.status(), StatusCode::CONFLICT);

    let poll = world
        .request(Method::GET, &format!("{path}?wait=30"))
        .header(header::IF_NONE_MATCH, &tag);
    let (polled, worker) = tokio::join!(poll.send(), world.start_fake_worker_default());
    let _worker = worker?;
    assert_eq!(polled?.status(), StatusCode::OK);

    world.succeeds(&id).await?;
    let done = world.request(Method::GET, &path).send().await?;
    assert!(
        !done.headers().contains_key(header::RETRY_AFTER),
        "an ended job is not polled again"
    );
    let result = world
        .request(Method::GET, &format!("{path}/result"))
        .send()
        .await?;
    assert_eq!(result.status(), StatusCode::FOUND);
    let link = result.headers()[header::LOCATION].to_str()?.to_owned();
    let bytes = reqwest::get(link)
        .await?
        .error_for_status()?
        .bytes()
        .await?;
    assert_eq!(Some(bytes.to_vec()), world.store.get("out/a.png").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_submits_a_file_and_brings_back_the_result() -> anyhow::Result<()> {
    let mut world = World::plain("submit").await?;
    let _worker = world.start_fake_worker_default().await?;
    let input = world.folder().join("käfer photo.png");
    let output = world.folder().join("käfer-x4.png");
    std::fs::write(&input, photo(24, 16))?;
    let submit = |more: &[&str]| {
        Command::new(program_path("upres")?)
            .args(["submit", "--api-url", world.url(0), "--api-key", &world.key])
            .args(more)
            .output()
            .map_err(anyhow::Error::from)
    };
    let (input, output) = (input.display().to_string(), output.display().to_string());
    let done = submit(&[&input, "-o", &output, "--timesteps", "250,150,50"])?;
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let picture = image::open(&output)?;
    assert_eq!((picture.width(), picture.height()), (96, 64));

    let again = submit(&[&input, "-o", &output])?;
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("exists"));
    let rising = submit(&[&input, "--timesteps", "50,250"])?;
    assert_eq!(rising.status.code(), Some(2));
    Ok(())
}
