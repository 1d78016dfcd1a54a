"""The network: shapes, padding, caches, packing, training, and the errors of wrong input."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, DynamicCache

from bird_vlm.configuration_bird import BirdConfig, BirdVisionConfig
from bird_vlm.errors import BadRequestError, CheckpointError
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.vision_bird import BirdResampler, BirdVisionAttention, resize_positions
from tiny_bird import IMAGE_TOKEN, QUERIES, a_config

CONV = {"stem": "conv", "stem_channels": [8, 12, 16]}


def a_prompt(*question: int) -> torch.Tensor:
    """(1, tokens): two tokens, one picture, the question."""
    return torch.tensor([[1, 2, *[IMAGE_TOKEN] * QUERIES, *question]])


def answer(bird, ids: torch.Tensor, **inputs) -> torch.Tensor:
    generated = bird.generate(input_ids=ids, max_new_tokens=8, do_sample=False, **inputs)
    return generated[:, ids.shape[1] :]


def test_features_have_one_row_per_query_and_come_from_the_grid(a_bird, two_images):
    grid = a_bird.model.vision_tower.encode_grid(two_images)
    features = a_bird.get_image_features(two_images)
    assert grid.shape == (2, 4, 4, 24)
    assert features.shape == (2, QUERIES, 32)
    assert torch.equal(a_bird.model.vision_tower.pool_grid(grid), features)


def test_grid_keeps_the_picture_upright(a_bird, two_images):
    """Row 0 of the grid is the top: it changes when the top of the picture does."""
    tower = a_bird.model.vision_tower
    tower.blocks = torch.nn.ModuleList()
    changed = two_images.clone()
    changed[:, :, :8, 24:] += 1
    difference = (tower.encode_grid(changed) - tower.encode_grid(two_images)).abs().sum((0, 3))
    assert difference.nonzero().tolist() == [[0, 3]]


def test_vision_attention_reads_rows_interleaved_per_head():
    config = BirdVisionConfig(hidden_size=24, num_attention_heads=2, output_dim=32)
    torch.manual_seed(0)
    layer, tokens = BirdVisionAttention(config), torch.randn(1, 5, 24)
    heads = []
    for head in range(2):
        start = head * 36
        weight = layer.in_proj.weight[start : start + 36]
        bias = layer.in_proj.bias[start : start + 36]
        query, key, value = (tokens[0] @ weight.T + bias).split(12, dim=1)
        heads.append((query @ key.T / 12**0.5).softmax(-1) @ value)
    expected = layer.out_proj(torch.cat(heads, dim=1))
    torch.testing.assert_close(layer(tokens)[0], expected)


def test_resampler_adds_positions_to_queries_and_keys_but_not_to_values():
    config = BirdVisionConfig(
        hidden_size=24, num_attention_heads=2, output_dim=32, num_queries=4, resampler_heads=1
    )
    torch.manual_seed(0)
    layer, tokens = BirdResampler(config), torch.randn(1, 4, 24)
    layer.query.data.normal_()
    layer.pos_embed.normal_()
    wq, wk, wv = layer.attn.in_proj_weight.chunk(3)
    value = layer.ln_kv(layer.kv_proj(tokens[0]))
    query = (layer.ln_q(layer.query) + layer.pos_embed) @ wq.T
    key = (value + layer.pos_embed) @ wk.T
    mixed = (query @ key.T / 32**0.5).softmax(-1) @ (value @ wv.T)
    torch.testing.assert_close(layer(tokens)[0], layer.attn.out_proj(mixed))


def test_positions_are_resized_only_where_sizes_differ():
    positions = torch.randn(16, 6)
    assert resize_positions(positions, 4) is positions
    constant = torch.full((16, 6), 2.5, dtype=torch.bfloat16)
    resized = resize_positions(constant, 9)
    assert resized.shape == (81, 6)
    assert resized.dtype == torch.bfloat16
    torch.testing.assert_close(resized, torch.full_like(resized, 2.5))


def test_loss_counts_labelled_tokens_only(a_bird, two_images):
    ids = a_prompt(3, 4, 5, 6)
    labels = torch.full_like(ids, -100)
    labels[:, -2:] = ids[:, -2:]
    output = a_bird(input_ids=ids, pixel_values=two_images[:1], labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[0, -3:-1], ids[0, -2:])
    torch.testing.assert_close(output.loss, expected)


def test_logits_to_keep_gives_the_last_ones(a_bird, two_images):
    inputs = {"input_ids": a_prompt(3, 4), "pixel_values": two_images[:1]}
    whole = a_bird(**inputs).logits
    torch.testing.assert_close(a_bird(**inputs, logits_to_keep=1).logits, whole[:, -1:])


def test_answers_depend_on_the_picture(a_bird, two_images):
    ids = a_prompt(3).expand(2, -1)
    logits = a_bird(input_ids=ids, pixel_values=two_images).logits[:, -1]
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_left_padded_batch_answers_as_each_question_alone(a_bird, two_images):
    short, long = a_prompt(3, 4), a_prompt(7, 8, 9, 10, 11)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), short], dim=1)
    mask = torch.ones(2, long.shape[1], dtype=torch.long)
    mask[0, :3] = 0
    batch = {"attention_mask": mask, "output_logits": True, "return_dict_in_generate": True}
    together = a_bird.generate(
        input_ids=torch.cat([padded, long]),
        pixel_values=two_images,
        max_new_tokens=8,
        do_sample=False,
        **batch,
    )
    for row, ids in enumerate((short, long)):
        alone = answer(a_bird, ids, pixel_values=two_images[row : row + 1])
        assert torch.equal(together.sequences[row : row + 1, long.shape[1] :], alone)
        first = a_bird(input_ids=ids, pixel_values=two_images[row : row + 1]).logits[0, -1]
        torch.testing.assert_close(together.logits[0][row], first, rtol=1e-4, atol=1e-4)


def test_static_cache_answers_as_the_dynamic_one(a_bird, two_images):
    ids = torch.cat([a_prompt(3, 4), a_prompt(5, 6)])
    dynamic = answer(a_bird, ids, pixel_values=two_images)
    static = answer(a_bird, ids, pixel_values=two_images, cache_implementation="static")
    assert torch.equal(static, dynamic)
    assert len(dynamic.unique()) > 2


def test_image_embeds_answer_as_pixels(a_bird, two_images):
    ids = torch.cat([a_prompt(3, 4), a_prompt(5, 6)])
    features = a_bird.get_image_features(two_images)
    from_pixels = answer(a_bird, ids, pixel_values=two_images)
    assert torch.equal(answer(a_bird, ids, image_embeds=features), from_pixels)
    uncached = answer(a_bird, ids, image_embeds=features, use_cache=False)
    assert torch.equal(uncached, from_pixels)


def test_prefix_is_prefilled_once_and_reused(a_bird, two_images):
    prefix = a_prompt()
    pixels = two_images[:1]
    with torch.no_grad():
        cache = a_bird(input_ids=prefix, pixel_values=pixels, use_cache=True).past_key_values
    for question in ((3, 4), (5, 6, 7)):
        ids = a_prompt(*question)
        reused = answer(a_bird, ids, past_key_values=copy.deepcopy(cache))
        assert torch.equal(reused, answer(a_bird, ids, pixel_values=pixels))


def test_transition_scores_are_the_chosen_tokens_probabilities(a_bird, two_images):
    ids = a_prompt(3, 4)
    output = a_bird.generate(
        input_ids=ids,
        pixel_values=two_images[:1],
        max_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    scores = a_bird.compute_transition_scores(
        output.sequences, output.logits, normalize_logits=True
    )
    expected = [step[0].log_softmax(-1).max() for step in output.logits]
    torch.testing.assert_close(scores[0], torch.stack(expected))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_packed_sequences_do_not_see_each_other(a_bird, two_images, training):
    a_bird.train(training)
    first, second = a_prompt(3, 4, 5), a_prompt(6, 7)
    packed = a_bird(
        input_ids=torch.cat([first, second], dim=1),
        position_ids=torch.cat([torch.arange(21), torch.arange(20)]).unsqueeze(0),
        pixel_values=two_images,
    ).logits
    alone = [
        a_bird(input_ids=ids, pixel_values=two_images[row : row + 1]).logits
        for row, ids in enumerate((first, second))
    ]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), rtol=1e-4, atol=1e-5)


def test_explicit_4d_mask_is_the_mask(a_bird, two_images):
    first, second = a_prompt(3, 4, 5), a_prompt(6, 7)
    inputs = {
        "input_ids": torch.cat([first, second], dim=1),
        "position_ids": torch.cat([torch.arange(21), torch.arange(20)]).unsqueeze(0),
        "pixel_values": two_images,
    }
    blocks = torch.block_diag(torch.ones(21, 21), torch.ones(20, 20)).tril().bool()
    masked = a_bird(**inputs, attention_mask=blocks[None, None]).logits
    torch.testing.assert_close(masked, a_bird(**inputs).logits, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_keeps_the_gradients(a_bird, two_images):
    def gradients() -> dict[str, torch.Tensor]:
        a_bird.train().zero_grad()
        ids = a_prompt(3, 4, 5)
        a_bird(input_ids=ids, pixel_values=two_images[:1], labels=ids).loss.backward()
        return {name: p.grad.clone() for name, p in a_bird.named_parameters()}

    plain = gradients()
    a_bird.gradient_checkpointing_enable()
    assert all(block.gradient_checkpointing for block in a_bird.model.vision_tower.blocks)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name], msg=name)


@pytest.mark.parametrize("vision", [{}, CONV], ids=["patchify", "conv"])
def test_model_trains_and_comes_back_from_disk(vision, two_images, tmp_path):
    torch.manual_seed(0)
    bird = BirdForConditionalGeneration(a_config(**vision))
    optimizer = torch.optim.AdamW(bird.parameters(), lr=3e-3)
    ids = torch.cat([a_prompt(3, 4, 5), a_prompt(3, 6, 7)])
    losses = []
    for _ in range(5):
        loss = bird(input_ids=ids, pixel_values=two_images, labels=ids).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in bird.parameters())
        optimizer.step()
    assert losses[-1] < losses[0]
    bird.model.vision_tower.attn_pool.pos_embed.mul_(2)  # stored, so not computed again
    bird.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(loaded) is BirdForConditionalGeneration
    for name, tensor in bird.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_fresh_positions_tell_all_places_apart():
    pos_embed = BirdForConditionalGeneration(a_config()).model.vision_tower.attn_pool.pos_embed
    distances = torch.cdist(pos_embed, pos_embed) + torch.eye(len(pos_embed)) * 9
    assert distances.min() > 0.5


def test_half_precision_runs(a_bird, two_images):
    a_bird.to(torch.bfloat16)
    logits = a_bird(input_ids=a_prompt(3), pixel_values=two_images[:1]).logits
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


def test_lora_saves_the_resampler_too(a_bird, two_images, tmp_path):
    peft = pytest.importorskip("peft", reason="peft comes with the training extra")
    lora = peft.LoraConfig(
        target_modules=r".*language_model\.layers\.\d+\.self_attn\.[qv]_proj",
        modules_to_save=["attn_pool"],
    )
    tuned = peft.get_peft_model(copy.deepcopy(a_bird), lora)
    ids = a_prompt(3, 4)
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.5)
    tuned(input_ids=ids, pixel_values=two_images[:1], labels=ids).loss.backward()
    optimizer.step()
    tuned.eval().save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(a_bird, tmp_path).eval()
    inputs = {"input_ids": ids, "pixel_values": two_images[:1]}
    torch.testing.assert_close(loaded(**inputs).logits, tuned(**inputs).logits)
    pool = loaded.base_model.model.model.vision_tower.attn_pool
    assert not torch.equal(pool.modules_to_save["default"].query, pool.original_module.query)


def test_too_many_tokens_are_refused(a_bird):
    long = torch.ones(1, 2049, dtype=torch.long)
    with pytest.raises(BadRequestError, match="2049 tokens are more than this model's 2048"):
        a_bird(input_ids=long)
    with pytest.raises(BadRequestError, match="2049 tokens"):
        a_bird.generate(input_ids=long, max_new_tokens=1)
    cache = DynamicCache(config=a_bird.config.text_config)
    a_bird(input_ids=long[:, :2048], past_key_values=cache, use_cache=True, logits_to_keep=1)
    with pytest.raises(BadRequestError, match="2049 tokens"):
        a_bird(input_ids=long[:, :1], past_key_values=cache, use_cache=True)


def test_image_tokens_must_match_the_images(a_bird, two_images):
    with pytest.raises(BadRequestError, match="16 image tokens for 32 image features of 2 images"):
        a_bird(input_ids=a_prompt(3), pixel_values=two_images)
    with pytest.raises(BadRequestError, match="needed beside images"):
        a_bird(inputs_embeds=torch.zeros(1, 20, 32), pixel_values=two_images)


def test_pictures_of_another_size_are_refused(a_bird):
    with pytest.raises(BadRequestError, match=r"pixel_values: .*\(batch, 3, 32, 32\)"):
        a_bird.get_image_features(torch.zeros(1, 3, 32, 30))


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        pytest.param({"stem": "fourier"}, "stem: must be one of patchify, conv", id="stem"),
        pytest.param({"image_size": 30}, "image_size: must be a multiple of", id="image-size"),
        pytest.param({**CONV, "patch_size": 16}, "3 stride-2 stages do not make", id="stages"),
        pytest.param({"num_queries": 15}, "num_queries: must be a square", id="queries"),
        pytest.param({"hidden_size": 25}, "does not divide hidden_size 25", id="heads"),
        pytest.param({"resampler_heads": 3}, "output_dim: must be a multiple", id="resampler"),
        pytest.param({"output_dim": 64}, "must equal text_config.hidden_size 32", id="decoder"),
    ],
)
def test_configurations_that_cannot_work_are_refused(vision, message):
    with pytest.raises(CheckpointError, match=message):
        a_config(**vision)


def test_configuration_comes_back_from_disk(tmp_path):
    config = a_config(**CONV)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, BirdConfig)
    assert loaded.vision_config.stem_channels == [8, 12, 16]
    loaded._name_or_path = config._name_or_path
    assert loaded.to_dict() == config.to_dict()
