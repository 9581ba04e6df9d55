"""The four networks of a small InvSR, their starting values, and the sampler that training runs through.

The classes are those of the published method (AutoencoderKL, UNet2DConditionModel, noise predictor); only
the sizes are ours: a latent at a quarter of the output, i.e. at the size of the low-resolution picture.
"""
import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

LATENT = 16
VAE = dict(
    in_channels=3, out_channels=3, latent_channels=LATENT, layers_per_block=1, act_fn="silu",
    block_out_channels=[16, 32, 64], norm_num_groups=1, mid_block_add_attention=False, sample_size=512,
    down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
    scaling_factor=1.0, force_upcast=True,
)
UNET = dict(
    in_channels=LATENT, out_channels=LATENT, sample_size=128, block_out_channels=[48, 64, 96], layers_per_block=1,
    attention_head_dim=[1, 2, 2], cross_attention_dim=32, norm_num_groups=1, norm_eps=1e-5, act_fn="silu",
    use_linear_projection=True, flip_sin_to_cos=True, freq_shift=0, center_input_sample=False,
    down_block_types=["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
    mid_block_type="UNetMidBlock2DCrossAttn",
    up_block_types=["CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
)
PREDICTOR = dict(
    in_channels=3, latent_channels=LATENT, double_z=True, block_out_channels=[64], layers_per_block=[6],
    down_block_types=["DownBlock2D"], mid_block_add_attention=False, attention_head_dim=64, norm_num_groups=1,
    temb_channels=64, act_fn="silu", resnet_time_scale_shift="default", freq_shift=0, flip_sin_to_cos=True,
    sample_size=128,
)
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "prediction_type": "epsilon",
    "timestep_spacing": "trailing", "steps_offset": 1, "interpolation_type": "linear", "use_karras_sigmas": False,
}
PROMPT_TOKENS = 4
TRAINED = (250, 200, 150, 100)  # first timesteps, one-based as the user writes them


def wavelet_fix(sr, reference):
    """The default colour fix: takes what five blurs of growing reach leave from `reference`, the enlarged input."""
    kernel = sr.new_tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    coarse = reference - sr
    for reach in (1, 2, 4, 8, 16):
        coarse = F.conv2d(F.pad(coarse, (reach,) * 4, mode="replicate"), kernel, groups=3, dilation=reach)
    return sr + coarse


def sigma_table():
    beta = torch.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000) ** 2
    kept = torch.cumprod(1 - beta, 0)
    return ((1 - kept) / kept).sqrt()


# --- the noise predictor ---------------------------------------------------------------------

class TimedResnet(nn.Module):
    def __init__(self, channels_in, channels, temb, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=1e-6)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb, channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(temb))[..., None, None]
        return x + self.conv2(F.silu(self.norm2(h)))


class Stack(nn.Module):
    """`count` resnets under the key `resnets`: the one level of the encoder, or its middle."""

    def __init__(self, channels, count, temb, groups):
        super().__init__()
        self.resnets = nn.ModuleList(TimedResnet(channels, channels, temb, groups) for _ in range(count))

    def forward(self, x, temb):
        for resnet in self.resnets:
            x = resnet(x, temb)
        return x


class TimeEmbedding(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class Encoder(nn.Module):
    """Only what this model uses of the published class: one level, no stride, no attention."""

    def __init__(self, config):
        super().__init__()
        (channels,), (layers,) = config["block_out_channels"], config["layers_per_block"]
        temb, groups = config["temb_channels"], config["norm_num_groups"]
        self.width = max(128, channels)
        self.time_embedding = TimeEmbedding(self.width, temb)
        self.conv_in = nn.Conv2d(config["in_channels"], channels, 3, padding=1)
        self.down_blocks = nn.ModuleList([Stack(channels, layers, temb, groups)])
        self.mid_block = Stack(channels, 2, temb, groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv_out = nn.Conv2d(channels, 2 * config["latent_channels"], 3, padding=1)

    def forward(self, x, t):
        half = self.width // 2
        angle = float(t) * torch.exp(torch.arange(half) * (-math.log(10000.0) / half))
        temb = self.time_embedding(torch.cat([angle.cos(), angle.sin()])[None])
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x, temb)
        x = self.mid_block(x, temb)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class NoisePredictor(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.encoder = Encoder(config)

    def forward(self, lr, t):
        """lr in [0, 1]; t counts from zero. Returns the mean and the standard deviation of the noise."""
        mean, logvar = self.encoder(lr * 2 - 1, t).float().chunk(2, dim=1)
        return mean, torch.exp(0.5 * logvar.clamp(-30, 20))


# --- the VAE, started as a bilinear upscaler -------------------------------------------------

def anchor(channels):
    """The value of the two constant stream channels: they fix the group norms' statistics."""
    return (4.5 * channels) ** 0.5


class BilinearStart:
    """Sets a VAE's weights so that it reduces by box and enlarges by bilinear before its first step.

    In every feature map channels 0 to 5 carry r, g, b, -r, -g, -b (silu(a) - silu(-a) = a brings them
    through the last activation), and the last two are constants, so that a one-group norm changes
    brightness hardly at all. What touches the constants is frozen: `masks` zeroes its gradients.
    """

    def __init__(self, vae):
        self.masks = {}
        with torch.no_grad():
            self.encoder(vae.encoder, vae.config.latent_channels)
            self.decoder(vae.decoder)
            for conv in (vae.quant_conv, vae.post_quant_conv):
                conv.weight.copy_(torch.eye(conv.weight.shape[0])[..., None, None])
                conv.bias.zero_()

    def keep(self, parameter, frozen):
        """Marks `frozen`, an index, of `parameter` as not to be trained."""
        mask = self.masks.setdefault(parameter, torch.ones_like(parameter))
        mask[frozen] = 0

    def writes(self, conv, content):
        """`conv` writes a stream: `content` ([6, in, k, k]) or None for the rgb rows, constants at the end."""
        if content is not None:
            conv.weight[:6] = content
            conv.bias[:6] = 0
        conv.weight[-2:] = 0
        conv.bias[-2:] = anchor(conv.weight.shape[0]) * torch.tensor([1.0, -1.0])
        self.keep(conv.weight, slice(-2, None))
        self.keep(conv.bias, slice(-2, None))

    def reads(self, conv):
        """`conv` reads a stream: it must not see the constants."""
        conv.weight[:, -2:] = 0
        self.keep(conv.weight, (slice(None), slice(-2, None)))

    def resnet(self, block):
        block.norm1.weight.fill_(3.0)
        self.reads(block.conv1)
        block.conv2.weight.mul_(0.3)
        block.conv2.bias.zero_()
        block.conv2.weight[:6] *= 0.1
        block.conv2.weight[-2:] = 0
        self.keep(block.conv2.weight, slice(-2, None))
        self.keep(block.conv2.bias, slice(-2, None))
        if block.conv_shortcut is not None:
            conv = block.conv_shortcut
            n = min(conv.weight.shape[:2]) - 2
            conv.weight.zero_()
            conv.bias.zero_()
            conv.weight[range(n), range(n)] = 1.0
            self.writes(conv, None)
            self.reads(conv)

    def resampler(self, conv, kernel):
        """A stride or an upsampler's convolution: `kernel` on each content channel."""
        conv.weight.mul_(0.1)
        conv.bias.zero_()
        n = conv.weight.shape[0] - 2
        conv.weight[range(n), range(n)] += kernel
        conv.weight[:6] = 0
        conv.weight[range(6), range(6)] = kernel
        self.writes(conv, None)
        self.reads(conv)

    def encoder(self, net, latent):
        content = torch.zeros(6, 3, 3, 3)
        for i in range(3):
            content[i, i, 1, 1], content[i + 3, i, 1, 1] = 1, -1
        self.writes(net.conv_in, content)
        box = torch.zeros(3, 3)
        box[:2, :2] = 0.25
        for block in net.down_blocks:
            self.resnet(block.resnets[0])
            if block.downsamplers:
                self.resampler(block.downsamplers[0].conv, box)
        self.middle(net)
        out = net.conv_out
        self.difference(out)
        out.weight[3:latent] *= 8
        out.weight[latent:] = 0
        out.bias[latent:] = -7
        self.reads(out)

    def decoder(self, net):
        content = torch.zeros(6, net.conv_in.weight.shape[1], 3, 3)
        for i in range(3):
            content[i, i, 1, 1], content[i + 3, i, 1, 1] = 1, -1
        self.writes(net.conv_in, content)
        self.middle(net)
        tent = torch.tensor([1.0, 2.0, 1.0])
        tent = tent[:, None] * tent / 16
        for block in net.up_blocks:
            for resnet in block.resnets:
                self.resnet(resnet)
            if block.upsamplers:
                self.resampler(block.upsamplers[0].conv, tent)
        self.difference(net.conv_out)
        self.reads(net.conv_out)

    def middle(self, net):
        for resnet in net.mid_block.resnets:
            self.resnet(resnet)
        net.conv_norm_out.weight.fill_(3.0)

    def difference(self, conv):
        """The first three outputs are channel i minus channel i + 3."""
        conv.weight[:3] = 0
        conv.bias[:3] = 0
        for i in range(3):
            conv.weight[i, i, 1, 1], conv.weight[i, i + 3, 1, 1] = 1, -1


# --- all four together -----------------------------------------------------------------------

class Upres(nn.Module):
    def __init__(self, scaling=1.0):
        super().__init__()
        self.vae = AutoencoderKL(**{**VAE, "scaling_factor": scaling})
        start = BilinearStart(self.vae)
        names = {p: n for n, p in self.named_parameters()}
        self.frozen = {names[p]: mask for p, mask in start.masks.items()}
        self.unet = UNet2DConditionModel(**UNET)
        self.predictor = NoisePredictor(PREDICTOR)
        self.prompt = nn.Parameter(torch.randn(1, PROMPT_TOKENS, UNET["cross_attention_dim"]) * 0.5)
        self.register_buffer("scaling", torch.tensor(float(scaling)))
        self.register_buffer("sigmas", sigma_table(), persistent=False)
        with torch.no_grad():
            out = self.predictor.encoder.conv_out
            out.weight.mul_(0.1)
            out.bias.zero_()
            out.weight[LATENT:] = 0
            out.bias[LATENT:] = -6

    def encode(self, image, sample=True):
        """image in [-1, 1] to a scaled latent; inference samples the posterior, so training does too."""
        posterior = self.vae.encode(image).latent_dist
        z = posterior.sample() if sample else posterior.mean
        return z.float() * self.scaling

    def decode(self, z):
        return self.vae.decode(z / self.scaling).sample.float()

    def epsilon(self, z, t, sigma):
        """The UNet's noise estimate for a latent at noise level `sigma`; t counts from zero."""
        prompt = self.prompt.expand(z.shape[0], -1, -1)
        return self.unet(z / (sigma ** 2 + 1) ** 0.5, t, prompt).sample.float()

    def start(self, lr, first):
        """The start latent of a schedule, and the standard deviation that the predictor gave."""
        with torch.no_grad():
            up = F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False) * 2 - 1
            z = self.encode(up)
        mean, std = self.predictor(lr, first - 1)
        return z + self.sigmas[first - 1] * (mean + std * torch.randn_like(std)), std

    def walk(self, z, schedule, until=None):
        """Euler steps from a start latent to the clean one, or to the noise level of timestep `until`."""
        end = torch.zeros(()) if until is None else self.sigmas[until - 1]
        levels = [self.sigmas[t - 1] for t in schedule] + [end]
        for t, sigma, following in zip(schedule, levels, levels[1:]):
            z = z + (following - sigma) * self.epsilon(z, t - 1, sigma)
        return z

    def upscale(self, lr, schedule=(200,)):
        """lr in [0, 1] to the picture in [-1, 1], unclamped."""
        z, _ = self.start(lr, schedule[0])
        return self.decode(self.walk(z, schedule))
