"""How the transformer is taught: what its heads look at first, what it is asked, how matrices move."""

import pytest
import torch

from training.first_flow import begin_with_neighbours, begin_with_noise
from training.flow_stage import Balance
from training.muon import MuonAndAdamW, orthogonal
from training.network import LATENT_CHANNELS, LATENT_PIXELS, PATCH, new_transformer, tokens_of
from training.place_stage import learn_places
from training.questions import CELL, Questions, by_token, own_places
from training.reading import count_tokens
from training.world import HEIGHT, WIDTH

FRAMES, ROWS, COLUMNS = 2, 4, 7  # of tokens
TOKENS = FRAMES * ROWS * COLUMNS


@pytest.fixture(autouse=True)
def _same_weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def transformer():
    return new_transformer()


def _latents(frames=FRAMES):
    return torch.zeros(1, LATENT_CHANNELS, frames, ROWS * PATCH[1], COLUMNS * PATCH[2])


def _silent(_text):
    pass


@torch.no_grad()
def _looks(transformer, block, head):
    """(tokens, tokens): how much each token gets of each, where all tokens are nearly the same."""
    attention = transformer.blocks[block].attn1
    width = transformer.config.attention_head_dim
    attention.to_q.weight.zero_()
    attention.to_k.weight.zero_()
    attention.to_out[0].weight.copy_(torch.eye(attention.to_out[0].in_features))
    attention.to_out[0].bias.zero_()
    attention.to_v.bias.zero_()
    count_tokens(transformer)
    rotary = transformer.rope(_latents())
    parts = []
    for first in range(0, TOKENS, width):
        said = torch.eye(TOKENS)[:, first : first + width]
        attention.to_v.weight.zero_()
        attention.to_v.weight[head * width : head * width + said.shape[1], : said.shape[1]] = (
            torch.eye(said.shape[1])
        )
        given = torch.zeros(1, TOKENS, attention.to_v.in_features)
        given[0, :, : said.shape[1]] = said
        got = attention(given, rotary_emb=rotary)[0]
        parts.append(got[:, head * width : head * width + said.shape[1]])
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize(
    ("head", "away"), [(0, (0, 0, -1)), (1, (0, 0, 1)), (2, (0, -1, 0)), (3, (0, 1, 0))]
)
def test_each_head_begins_by_looking_at_its_neighbour(transformer, head, away):
    begin_with_neighbours(transformer)

    looks = _looks(transformer, 0, head)

    place = torch.arange(TOKENS).view(FRAMES, ROWS, COLUMNS)
    token = int(place[0, 2, 3])
    neighbour = int(place[0 + away[0], 2 + away[1], 3 + away[2]])
    assert looks[token].argmax() == neighbour
    assert looks[token, neighbour] > 2 * looks[token].median()


def test_the_second_block_looks_along_time(transformer):
    begin_with_neighbours(transformer)

    looks = _looks(transformer, 1, 1)

    place = torch.arange(TOKENS).view(FRAMES, ROWS, COLUMNS)
    assert looks[place[0, 1, 1]].argmax() == place[1, 1, 1]


@pytest.mark.parametrize("where", [(0, 0, 0), (0, 3, 9), (1, 7, 13)])
def test_what_is_asked_of_a_token_is_what_the_token_sees(transformer, where):
    frame, row, column = where
    latents = _latents()
    latents[0, :, frame, row, column] = 1
    embedded = transformer.patch_embedding(latents).flatten(2)[0]
    seeing = (embedded - embedded.median(dim=1, keepdim=True).values).abs().sum(0).argmax()
    cells = torch.zeros(1, FRAMES, HEIGHT // CELL, WIDTH // CELL)
    each = LATENT_PIXELS // CELL
    cells[0, frame, row * each, column * each] = 1

    asked = by_token(cells)[0]

    assert asked.shape[0] == TOKENS == tokens_of(FRAMES, HEIGHT, WIDTH)
    assert asked.sum() == 1
    assert asked.sum(1).argmax() == seeing


def test_a_token_is_asked_how_far_it_is_from_where_the_clip_begins():
    places = own_places(5, ROWS, COLUMNS).view(5, ROWS, COLUMNS, 3)

    assert places[0, 0, 0].tolist() == [-1, -1, -1]
    assert places[4, 3, 6].tolist() == pytest.approx([-0.6, 1, 1])
    assert places[2, 1, 3].tolist() == pytest.approx([-0.8, -1 / 3, 0])


def test_a_transformer_that_is_asked_learns_where_the_object_is(transformer):
    questions = Questions(transformer)
    parameters = [*transformer.parameters(), *questions.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    cells = torch.zeros(2, 1, HEIGHT // CELL, WIDTH // CELL)
    cells[0, 0, 4:8, 4:8] = 1
    cells[1, 0, 8:12, 20:24] = 1
    middle = torch.tensor([[[48.0, 48.0]], [[176.0, 80.0]]])
    latents = torch.randn(2, *_latents(1).shape[1:])
    errors = []
    for _ in range(40):
        transformer(latents, torch.tensor([500.0, 500.0]), torch.zeros(2, 3, 96), return_dict=False)
        error = questions.error(cells, middle)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())

    assert errors[-1] < 0.25 * errors[0]


def test_tokens_of_noise_learn_where_they_are(transformer):
    begin_with_noise(transformer, torch.Generator().manual_seed(0))
    begin_with_neighbours(transformer)
    questions = Questions(transformer)
    matrices = [weight for weight in transformer.blocks.parameters() if weight.ndim == 2]
    others = list(questions.parameters())
    optimizer = MuonAndAdamW(matrices, others, matrix_rate=8e-3, other_rate=3e-3)

    def left(steps):
        return learn_places(
            transformer,
            count_tokens(transformer),
            questions,
            optimizer,
            seed=1,
            steps=steps,
            report=_silent,
            frames=5,
        )

    before = left(1)
    assert left(90) < 0.2 * before


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 20, 60), (2, 60, 20)])
def test_a_move_is_made_orthogonal_and_keeps_its_direction(shape):
    given = torch.randn(shape)

    found = orthogonal(given)

    assert found.shape == shape
    sizes = torch.linalg.svdvals(found)
    assert sizes.median() > 0.7
    assert sizes.max() < 1.3
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    wanted = left @ right
    likeness = (found * wanted).flatten(1).sum(1) / (
        found.flatten(1).norm(dim=1) * wanted.flatten(1).norm(dim=1)
    )
    assert likeness.min() > 0.95


def test_each_noise_level_teaches_as_much_as_any_other():
    balance = Balance()
    sigmas = torch.tensor([0.99, 0.98, 0.31, 0.32])
    errors = torch.tensor([4.0, 6.0, 0.2, 0.3])
    for _ in range(300):
        balance(errors, sigmas)

    errors.requires_grad_()
    balanced = balance(errors, sigmas)
    balanced.backward()

    assert balanced.item() == pytest.approx(1.0, rel=0.05)
    taught = errors.grad * errors.detach()
    assert taught[:2].sum().item() == pytest.approx(taught[2:].sum().item(), rel=0.05)
    assert balance(torch.tensor([2.0]), torch.tensor([0.5])).item() == pytest.approx(2.0)


def test_matrices_and_all_else_are_learned_each_in_its_way():
    layer = torch.nn.Linear(16, 8)
    optimizer = MuonAndAdamW([layer.weight], [layer.bias], matrix_rate=0.02, other_rate=0.02)
    given, wanted = torch.randn(64, 16), torch.randn(64, 8)
    errors = []
    for _ in range(60):
        error = (layer(given) - wanted).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step(1.0)
        errors.append(error.item())

    assert errors[-1] < 0.9 * errors[0]
    assert min(errors) == pytest.approx(errors[-1], rel=0.1)
