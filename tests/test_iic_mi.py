"""IIC-MI of Table 2: V of Eq. 3 for two views, under IIC's loss."""

import torch
from helpers import build, descend
from torch.nn import functional as F

from infoseg.clustering_losses import iic_loss
from infoseg.jitter import JitterSettings, jittered_view
from infoseg.views import Views


def views(batch: int, side: int) -> Views:
    """Pictures of blobs, so that there is something to agree on."""
    coarse = torch.rand(batch, 3, 4, 4, generator=torch.Generator().manual_seed(9))
    return Views(F.interpolate(coarse, (side, side), mode="bilinear"))


def test_the_loss_is_iics_on_v_of_both_views_with_the_mirroring_undone():
    method = build("iic_mi", flip=1.0).eval()
    seen = views(4, 32)
    generator = torch.Generator().manual_seed(3)
    found = method.loss(seen, generator)

    generator.manual_seed(3)
    settings = method.settings
    other, mirrored = jittered_view(seen.images, settings.jitter, 1.0, generator)
    assert mirrored.all()

    def v(images):
        local, glob = method.network(images)
        scores = torch.einsum("bpuv,bkp->bkuv", local, glob) * settings.objective.score_factor
        v = (settings.objective.tau * scores).softmax(1)
        return F.interpolate(v, images.shape[-2:], mode="bilinear", align_corners=False)

    expected = iic_loss(v(seen.images), v(other).flip(-1), settings.displacement, settings.weight)
    torch.testing.assert_close(found, expected)


def test_it_differs_from_infoseg_in_the_loss_alone():
    ours, infoseg = build("iic_mi", seed=1), build("infoseg", seed=1)
    assert ours.state_dict().keys() == infoseg.state_dict().keys()
    seen = views(2, 32)
    assert torch.equal(ours.eval().segment(seen), infoseg.eval().segment(seen))
    assert not ours.sees.mask


def test_training_raises_the_information_two_views_share():
    method = build("iic_mi", displacement=0, flip=0.5)
    seen, generator = views(8, 32), torch.Generator().manual_seed(0)
    losses = descend(method, seen, generator, 30)
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.1
    assert min(losses) >= -torch.tensor(3.0).log() - 1e-4


def test_a_mirrored_view_is_the_jittered_one_mirrored():
    images = torch.rand(6, 3, 8, 8)
    settings = JitterSettings(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    plain, never = jittered_view(images, settings, 0.0, torch.Generator().manual_seed(0))
    turned, always = jittered_view(images, settings, 1.0, torch.Generator().manual_seed(0))
    assert not never.any() and always.all()
    torch.testing.assert_close(turned, plain.flip(-1))
