"""What the stages minimise. No pretrained feature network is used anywhere."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def charbonnier(a, b):
    return ((a - b) ** 2 + 1e-6).sqrt().mean()


def gradient_l1(a, b):
    """L1 between horizontal and vertical differences at full and half size."""
    total = 0.0
    for _ in range(2):
        total = total + (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean() + (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total / 2


def reduced_l1(a, b):
    """L1 of both reduced by four: what the low-resolution picture already knew must come back."""
    a, b = (F.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True) for x in (a, b))
    return (a - b).abs().mean()


def log_mse(a, b):
    """Logarithm of each crop's squared error, half of it luma's: PSNR, bounded where a crop is nearly right
    already, lest the flat ones were all that counts."""
    weights = a.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma = (((a - b) * weights).sum(1) ** 2).mean((1, 2))
    return torch.log(0.5 * luma + 0.5 * ((a - b) ** 2).mean((1, 2, 3)) + 1e-3)


def chroma_l1(a, b):
    """L1 of what sets the channels apart, doubled where the truth is grey, which must stay grey."""
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    grey = (b.abs().amax((1, 2, 3)) < 1e-3).float()
    return ((1 + grey) * (a - b).abs().mean((1, 2, 3))).mean()


def blemishes(a, b, count=16):
    """The worst pixels of each crop where nothing may go wrong: a border or corner in a flat field, and
    colour in a grey picture. A mean hardly sees them; an eye sees nothing else."""
    level = 2 / 255
    flat = ((a - b).abs() - level).clamp_min(0) * (highest(b) + highest(-b) < 3 * level)
    tint_a, tint_b = (x - x.mean(1, keepdim=True) for x in (a, b))
    grey = (tint_b.abs().amax((1, 2, 3), keepdim=True) < 1e-3).float()
    return worst(flat, count) + 2 * worst((tint_a - tint_b).abs() * grey, count)


def highest(x):
    """The maximum of 9 x 9 pixels around each; by rows and then by columns it costs less than half."""
    return F.max_pool2d(F.max_pool2d(x, (1, 9), 1, (0, 4)), (9, 1), 1, (4, 0))


def worst(x, count):
    return x.flatten(1).topk(count).values.mean()


def kl(posterior):
    return 0.5 * (posterior.mean ** 2 + posterior.var - 1 - posterior.logvar).mean()


def luma_psnr(a, b):
    """PSNR in dB of BT.601 luma, for pictures in [0, 1] rounded to 8 bit."""
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    a, b = ((x.clamp(0, 1) * 255).round() / 255 for x in (a, b))
    error = (((a - b) * weights).sum(1) ** 2).mean((1, 2))
    return 10 * torch.log10(255.0 ** 2 / error.clamp_min(1e-6))


def texture(x):
    """The strength of fine structure around each place: root mean square of luma's differences in 8 x 8 px."""
    y = x.mean(1, keepdim=True)
    energy = y.diff(dim=-1)[..., :-1, :] ** 2 + y.diff(dim=-2)[..., :-1] ** 2
    return (F.avg_pool2d(energy, 8, stride=4) + 1e-6).sqrt()


class Discriminator(nn.Module):
    """A small patch discriminator; its inner activations serve as features to be matched."""

    def __init__(self):
        super().__init__()
        sizes = [(3, 32, 1), (32, 48, 2), (48, 64, 2), (64, 64, 1)]
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 3, stride=s, padding=1)) for a, b, s in sizes)
        self.score = spectral_norm(nn.Conv2d(64, 1, 3, padding=1))

    def forward(self, x):
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.score(x).float(), features


def hinge(real, fake):
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def feature_matching(fake, real):
    return sum(F.l1_loss(f.float(), r.detach().float()) for f, r in zip(fake, real)) / len(fake)
