import pytest
import torch
import torch.nn.functional as F

from mmseg_uhr.models.layers import ClassMemory


def step(t, classes):
    """Features and labels of the recipe's step t."""
    generator = torch.Generator().manual_seed(20 + t)
    labels = torch.randint(0, classes, (2, 1, 8, 10), generator=generator)
    ignored = torch.rand(labels.shape, generator=generator) < 0.05
    labels[ignored] = 255
    generator = torch.Generator().manual_seed(10 + t)
    return torch.randn(2, 512, 8, 10, generator=generator), labels


def test_steps_of_the_reference(golden):
    expected = golden.arrays('sghrq')
    memory = ClassMemory(7)
    assert list(memory.state_dict())[0] == 'memory'
    for t, classes in enumerate((5, 7, 7)):
        before = memory.memory
        memory.update(*step(t, classes))
        # In place: optimizers, EMA and DDP keep what they know.
        assert memory.memory is before
        assert memory.memory.any(dim=1).sum() == classes
        torch.testing.assert_close(
            memory.memory,
            torch.from_numpy(expected[f'M_step{t + 1}'][:, 0]),
            rtol=0,
            atol=1e-5,
        )


def test_update_is_the_formula():
    memory = ClassMemory(3, 4, 4, momentum=0.3)
    old = torch.randn(4)
    memory.memory[1] = old
    x = torch.randn(1, 4, 2, 3)
    labels = torch.tensor([[[[1, 1, 2], [1, 255, 255]]]])
    memory.update(x, labels)
    vectors = x[0].flatten(1).t()
    mine = vectors[[0, 1, 3]]
    weights = 1 - F.cosine_similarity(mine, old[None])
    mean = (weights / weights.sum()) @ mine
    assert not memory.memory[0].any()
    torch.testing.assert_close(memory.memory[1], 0.7 * old + 0.3 * mean)
    torch.testing.assert_close(memory.memory[2], vectors[2])


def test_labels_are_sampled_by_nearest_neighbour():
    memory = ClassMemory(2, 4, 4)
    labels = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    labels[..., 0, 0], labels[..., 0, 4], labels[..., 1, 1] = 0, 1, 0
    x = torch.randn(1, 4, 2, 2)
    memory.update(x, labels)
    torch.testing.assert_close(memory.memory, x[0, :, 0].t())


def test_nothing_to_store():
    memory = ClassMemory(3, 4, 4)
    memory.memory[1] = 1
    before = memory.memory.clone()
    memory.update(torch.randn(2, 4, 3, 3), torch.full((2, 1, 6, 6), 255))
    assert torch.equal(memory.memory, before)


def test_features_that_equal_the_memory():
    """All weights are zero then: the mean is not NaN, and nothing moves."""
    memory = ClassMemory(2, 4, 4)
    labels = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    x = torch.tensor([3.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1)
    for _ in range(3):
        memory.update(x, labels)
        torch.testing.assert_close(memory.memory[0], x.flatten())
    # Dead features: no direction, but a value.
    memory.update(torch.zeros(1, 4, 1, 1), labels)
    torch.testing.assert_close(memory.memory[0], 0.9 * x.flatten())


def test_overflow_is_not_kept():
    memory = ClassMemory(2, 4, 4)
    labels = torch.tensor([[[[0, 1]]]])
    memory.update(torch.ones(1, 4, 1, 2), labels)
    memory.update(torch.full((1, 4, 1, 2), float('inf')), labels)
    assert torch.equal(memory.memory, torch.ones(2, 4))


def test_read():
    memory = ClassMemory(3, 6, 4).eval()
    x = torch.randn(2, 6, 5, 7)
    assert torch.equal(memory(x), torch.full((2, 3, 5, 7), 1 / 3))
    memory.memory.normal_()
    found = memory(x)
    scores = torch.einsum('nkhw,ck->nchw', memory.embed(x), memory.memory)
    torch.testing.assert_close(found, (scores / 2).softmax(dim=1))


def test_update_between_forward_and_backward():
    memory = ClassMemory(3, 4, 4)
    labels = torch.randint(0, 3, (2, 1, 5, 5))
    memory.update(torch.randn(2, 4, 5, 5), labels)
    read = memory(torch.randn(2, 4, 5, 5))
    memory.update(torch.randn(2, 4, 5, 5), labels)
    read.square().sum().backward()
    assert memory.embed.conv.weight.grad.any()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    torch.manual_seed(0)
    one, other = ClassMemory(3, 4, 4), ClassMemory(3, 4, 4).to(dtype)
    labels = torch.randint(0, 3, (2, 1, 5, 5))
    for _ in range(3):
        x = torch.randn(2, 4, 5, 5).to(dtype)
        with torch.autocast('cpu', torch.bfloat16):
            one.update(x.float(), labels)
        other.update(x, labels)
        torch.testing.assert_close(
            one.memory,
            other.memory.float(),
            rtol=1e-2 if dtype == torch.bfloat16 else 1e-5,
            atol=1e-2 if dtype == torch.bfloat16 else 1e-5,
        )
    assert other.memory.dtype == dtype


def test_unknown_sync():
    with pytest.raises(ValueError, match="sync='max': expected one of"):
        ClassMemory(3, sync='max')
