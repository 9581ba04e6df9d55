//! The configuration files of random models.

use serde_json::{Value, json};

use super::Size;

/// Every configuration file, by path inside the model folder.
pub(super) fn configs(size: Size) -> [(&'static str, Value); 5] {
    [
        ("model_index.json", model_index()),
        ("scheduler/scheduler_config.json", scheduler()),
        ("vae/config.json", vae(size)),
        ("unet/config.json", unet(size)),
        ("noise_predictor/config.json", noise_predictor(size)),
    ]
}

fn model_index() -> Value {
    json!({
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
}

fn scheduler() -> Value {
    json!({
        "_class_name": "EulerDiscreteScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "timestep_spacing": "trailing",
    })
}

fn vae(size: Size) -> Value {
    let (widths, layers, latents, groups, attends, scaling) = match size {
        Size::Tiny => (vec![16, 32, 32, 32], 2, 4, 8, true, 0.18215),
        Size::Quarter => (vec![16, 32, 64], 1, 8, 1, false, 1.015),
        Size::Full => (vec![128, 256, 512, 512], 2, 4, 32, true, 0.18215),
    };
    json!({
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "down_block_types": vec!["DownEncoderBlock2D"; widths.len()],
        "up_block_types": vec!["UpDecoderBlock2D"; widths.len()],
        "block_out_channels": widths,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": latents,
        "layers_per_block": layers,
        "mid_block_add_attention": attends,
        "norm_num_groups": groups,
        "sample_size": 768,
        "scaling_factor": scaling,
    })
}

fn unet(size: Size) -> Value {
    let cross = |kind: &str| format!("CrossAttn{kind}Block2D");
    let plain = |kind: &str| format!("{kind}Block2D");
    let (widths, heads, layers, latents, groups, prompt) = match size {
        Size::Tiny => (vec![16, 32, 32, 32], vec![1, 2, 4, 4], 2, 4, 8, 24),
        Size::Quarter => (vec![32, 48, 64], vec![1, 2, 2], 1, 8, 1, 24),
        Size::Full => (
            vec![320, 640, 1280, 1280],
            vec![5, 10, 20, 20],
            2,
            4,
            32,
            1024,
        ),
    };
    let attends = match size {
        Size::Tiny | Size::Full => vec![true, true, true, false],
        Size::Quarter => vec![false, false, true],
    };
    let kinds = |kind: &str, each: &mut dyn Iterator<Item = &bool>| -> Vec<String> {
        each.map(|attends| if *attends { cross(kind) } else { plain(kind) })
            .collect()
    };
    json!({
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": heads,
        "block_out_channels": widths,
        "center_input_sample": false,
        "cross_attention_dim": prompt,
        "down_block_types": kinds("Down", &mut attends.iter()),
        "downsample_padding": 1,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "in_channels": latents,
        "layers_per_block": layers,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "norm_eps": 1e-5,
        "norm_num_groups": groups,
        "out_channels": latents,
        "sample_size": 64,
        "up_block_types": kinds("Up", &mut attends.iter().rev()),
        "use_linear_projection": true,
    })
}

pub(super) fn noise_predictor(size: Size) -> Value {
    let (widths, layers, latents, groups, head, time) = match size {
        Size::Tiny => (vec![16, 32], vec![3, 3], 4, 8, 8, 32),
        Size::Quarter => (vec![64], vec![4], 8, 1, 8, 64),
        Size::Full => (vec![256, 512], vec![3, 3], 4, 32, 64, 512),
    };
    let attends = size != Size::Quarter;
    let kind = if attends {
        "AttnDownBlock2D"
    } else {
        "DownBlock2D"
    };
    json!({
        "_class_name": "NoisePredictor",
        "act_fn": "silu",
        "attention_head_dim": head,
        "down_block_types": vec![kind; widths.len()],
        "block_out_channels": widths,
        "double_z": true,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "in_channels": 3,
        "latent_channels": latents,
        "layers_per_block": layers,
        "mid_block_add_attention": attends,
        "norm_num_groups": groups,
        "resnet_time_scale_shift": "default",
        "sample_size": 128,
        "temb_channels": time,
    })
}
