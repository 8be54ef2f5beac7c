"""Prompt lists of benchmarks, the folders that films go to, a command that was cut short, and measures of films."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from polyclock import save_pretrained
from polyclock.backbones.dit import DiT
from polyclock.cli import main
from polyclock.codecs import FlowPlanes, Pixels
from polyclock.commands.benchmark import SUITES, summary
from polyclock.encoders import Bytes
from polyclock.evaluate.suites import dimensions
from polyclock.evaluate.suites.filming import lines
from polyclock.evaluate.suites.prompts import TAKES, films
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition, Modality
from polyclock.nn.modulation import Local
from polyclock.recipe import Recipe
from polyclock.timesteps import Independent

SIDE = 32


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A model of four pictures and their flow, given a sentence."""
    film = Modality(shape=(4, SIDE, SIDE, 3), patch=(1, 16, 16), rate=8.0, codec=Pixels())
    flow = Modality(shape=(4, SIDE, SIDE, 2), patch=(1, 16, 16), rate=8.0, codec=FlowPlanes(reach=4.0))
    text = Condition(encoder=Bytes(width=16, depth=1, heads=2), route="context", key="task")
    recipe = Recipe(
        name="filming",
        modalities={"video": film, "flow": flow},
        conditions={"text": text},
        layout=Layout(Stream("video"), Stream("flow")),
        law=Independent(),
        modulation=Local(),
        backbone=DiT(width=32, depth=1, heads=2),
    )
    folder = tmp_path_factory.mktemp("run") / "model"
    save_pretrained(recipe.build(), folder)
    return folder


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    rows = [
        {"prompt_en": "a dog, running", "dimension": ["subject_consistency", "dynamic_degree"]},
        {"prompt_en": "a still lake", "dimension": ["temporal_flickering"]},
    ]
    path = tmp_path / "full_info.json"
    path.write_text(json.dumps(rows))
    return path


def test_the_suites_of_the_command_are_those_with_prompts() -> None:
    assert set(SUITES) == set(TAKES)


def test_films_are_named_by_prompt_and_index(listed: Path, tmp_path: Path) -> None:
    found = films("vbench", listed)
    assert [f.file for f in found[:6]] == [f"a dog, running-{i}.mp4" for i in range(5)] + ["a still lake-0.mp4"]
    assert len(found) == 5 + 25, "of the dimension of stills there are 25"
    assert found[0].dimensions == ("subject consistency", "dynamic degree")
    assert {f.prompts for f in films("vbench", listed, ["dynamic_degree"])} == {("a dog, running",)}
    assert len(films("vbench", listed, takes=1)) == 2
    plain = tmp_path / "all.txt"
    plain.write_text("one\n\ntwo\none\n")
    assert [f.file for f in films("vbench", plain, takes=1)] == ["one-0.mp4", "two-0.mp4"]


def test_the_second_edition_has_folders_and_short_names(tmp_path: Path) -> None:
    folder = tmp_path / "prompt"
    folder.mkdir()
    (folder / "Diversity.txt").write_text("a river\n")
    (folder / "Multi-View_Consistency.txt").write_text("x" * 200 + "\na river\n")
    found = films("vbench2", folder)
    assert [f.file for f in found[:2]] == ["Diversity/a river-0.mp4", "Diversity/a river-1.mp4"]
    assert [f.file for f in found[20:24]] == [f"Multi-View_Consistency/{'x' * 180}-{i}.mp4" for i in range(3)] + [
        "Multi-View_Consistency/a river-0.mp4"
    ]
    assert found[20].prompts == ("x" * 200,) and found[20].dimensions == ("multi-view consistency",)
    listed = tmp_path / "info.json"
    listed.write_text(
        json.dumps([{"prompt_en": "Garden, zoom in.", "dimension": "Camera_Motion", "auxiliary_info": "z"}])
    )
    assert [f.file for f in films("vbench2", listed)] == [f"Camera_Motion/Garden, zoom in.-{i}.mp4" for i in range(3)]


def test_captions_and_scenes(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text('caption,states_of_matter\n"Water, poured into a cup.",solid-fluid\n')
    (film,) = films("videophy", table)
    assert film.file == "Water,_poured_into_a_cup._0.mp4" and film.dimensions == ("solid-fluid",)
    world = {"visual_style": "photorealistic", "style": "Photo style.", "image": "images/in/dining_spaces/007.png"}
    static = world | {"visual_movement": "static", "scene_type": "indoor", "camera_path": ["pan_left", "pull_left"]}
    static["prompt_list"] = ["A room.", "A hall", "A yard."]
    moving = world | {
        "visual_movement": "dynamic",
        "motion_type": "rigid",
        "camera_path": ["fixed"],
        "prompt": "A ball.",
    }
    path = tmp_path / "worlds.json"
    path.write_text(json.dumps([static, moving]))
    one, other = films("worldscore", path)
    assert (
        one.file == "static/photorealistic/indoor/dining_spaces/007"
        and other.file == "dynamic/photorealistic/rigid/007"
    )
    assert one.prompts == (
        "Camera pan left. A hall. Photo style.. Everything in the scene remains completely motionless.",
        "Camera move left, pull out, then pan left. A yard. Photo style.. Everything in the scene remains completely "
        "motionless.",
    )
    assert other.prompts == ("Camera fixed. A ball. Photo style.",)
    assert [f.file for f in films("worldscore", path, ["dynamic"])] == [other.file]


def test_lists_that_are_wrong(listed: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('[{"prompt": "x"}]')
    slash = tmp_path / "slash.txt"
    slash.write_text("on/off\n")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for suite, path, more, said in (
        ("vbenc", listed, {}, "unknown suite 'vbenc'. Did you mean 'vbench'"),
        ("vbench", tmp_path / "none.txt", {}, "is not there; a prompt list of vbench is needed"),
        ("vbench", listed, {"dimensions": ["scene"]}, "unknown dimension in this list 'scene'"),
        ("vbench", listed, {"takes": 0}, "takes=0; needed: 1 or more"),
        ("vbench", bad, {}, "is not a list of entries with prompt_en, dimension"),
        ("vbench", slash, {}, "holds a / and cannot be a file's name"),
        ("vbench", empty, {}, "asks for no film"),
        ("worldscore", bad, {}, "is not a list of entries with visual_movement"),
    ):
        with pytest.raises(ValueError, match=said):
            films(suite, path, **more)


def test_the_published_list(real_data: Path) -> None:
    folder = real_data / "prompts" / "vbench"
    found = films("vbench", folder / "vbench" / "VBench_full_info.json")
    assert len({f.prompts for f in found}) == 944 and len(found) == 944 * 5 + 75 * 20
    still = films("vbench", folder / "prompts" / "prompts_per_dimension", ["temporal flickering"])
    assert len(still) == 75 * 25
    assert {f.file for f in still} == {f.file for f in found if "temporal flickering" in f.dimensions}
    assert {f.file for f in films("vbench", folder / "prompts" / "all_dimension.txt")} <= {f.file for f in found}
    smooth = [f for f in found if "motion smoothness" in f.dimensions]
    assert len(smooth) == 72 * 5


def test_films_are_written_measured_and_gone_on_with(run: Path, listed: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "films"
    words = [
        "benchmark",
        "films",
        str(run),
        "--suite",
        "vbench",
        "--prompts",
        str(listed),
        "--out",
        str(out),
        "--steps",
        "2",
    ]
    words += ["--query", "video, flow | text", "--takes", "2"]
    assert main([*words, "--limit", "1"]) == 0 and "1 films, 1 of them new" in capsys.readouterr().out
    first = (out / "a dog, running-0.mp4").read_bytes()
    assert main(words) == 0 and "4 films, 3 of them new" in capsys.readouterr().out
    assert (out / "a dog, running-0.mp4").read_bytes() == first
    notes = {line["file"]: line for line in lines(out)}
    assert len(notes) == len({n["seed"] for n in notes.values()}) == 4 and all(
        "own_dynamic" in n for n in notes.values()
    )
    # A film that is gone is made again, to the byte; a line that was cut short is made good.
    (out / "a still lake-1.mp4").unlink()
    log = out / "films.jsonl"
    noted = [line for line in log.read_text().splitlines() if "a still lake-1" not in line]
    log.write_bytes("\n".join([*noted, '{"file": "ein schö']).encode()[:-1])  # in the middle of a letter
    assert main(words) == 0 and "4 films, 1 of them new" in capsys.readouterr().out
    whole = tmp_path / "again"
    words[words.index(str(out))] = str(whole)
    assert main(words) == 0
    assert all((whole / f).read_bytes() == (out / f).read_bytes() for f in notes)
    assert main([*words, "--seed", "1"]) == 2
    assert "holds films made with seed = 0, not 1; use another folder" in capsys.readouterr().err

    assert main(["benchmark", "measure", str(out)]) == 0
    found = json.loads((out / "measured.json").read_text())
    assert found["films"] == 4 and found["dimensions"]["temporal flickering"]["films"] == 2
    assert found["dimensions"]["motion smoothness"]["films"] == 4, "no prompt is of this dimension: all count"
    assert {"dynamic degree", "dynamic degree by its own flow"} <= set(found["dimensions"])
    assert found["dimensions"]["dynamic degree"]["n_blocks"] == 1


def test_the_other_layouts(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text("caption\nA spoon stirs the soup.\n")
    out = tmp_path / "physics"
    base = ["benchmark", "films", str(run), "--steps", "1", "--out", str(out), "--prompts"]
    assert main([*base, str(table), "--suite", "videophy"]) == 0
    (row,) = list(csv.DictReader((out / "videos.csv").open()))
    assert Path(row["videopath"]).is_file() and row["caption"] == "A spoon stirs the soup."
    world = {"visual_movement": "static", "visual_style": "stylized", "scene_type": "outdoor", "style": "Ink."}
    world |= {"camera_path": ["push_in", "pan_left"], "prompt_list": ["A.", "B.", "C."], "image": "x/parks/001.png"}
    path = tmp_path / "static.json"
    path.write_text(json.dumps([world]))
    base[base.index(str(out))] = str(tmp_path / "worlds")
    assert main([*base, str(path), "--suite", "worldscore"]) == 0
    folder = tmp_path / "worlds" / "static" / "stylized" / "outdoor" / "parks" / "001"
    told = json.loads((folder / "image_data.json").read_text())
    # Two parts of four frames share one.
    assert (told["num_scenes"], told["total_frames"], told["anchor_frame_idx"]) == (2, 7, [0, 3, 6])
    assert sorted(p.name for p in (folder / "frames").iterdir()) == [f"{i:03d}.png" for i in range(7)]
    assert (folder / "videos" / "output.mp4").is_file() and told["prompt_list"] == ["A.", "B.", "C."]


def test_queries_that_a_benchmark_cannot_ask(run: Path, listed: Path, tmp_path: Path, capsys) -> None:
    words = [
        "benchmark",
        "films",
        str(run),
        "--suite",
        "vbench",
        "--prompts",
        str(listed),
        "--out",
        str(tmp_path / "o"),
    ]
    for query, said in (
        ("flow | text", "must want one of video, given one of text"),
        ("video", "must want one of video, given one of text"),
        ("video[1:] | video[:1], text", "must be given video, but a benchmark gives sentences"),
    ):
        assert main([*words, "--query", query]) == 2
        assert said in capsys.readouterr().err
    assert main(["benchmark", "measure", str(tmp_path)]) == 2 and "holds no films" in capsys.readouterr().err
    assert main(["benchmark", "film"]) == 2 and "unknown action 'film'" in capsys.readouterr().err


def test_totals_on_the_command_line(tmp_path: Path, capsys) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"motion_accuracy": 30, "motion_magnitude": 60, "motion_smoothness": 90}))
    assert main(["benchmark", "total", str(path), "--suite", "worldscore"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dynamic": 60.0}
    path.write_text(json.dumps([{"states_of_matter": "solid-solid", "sa": 0.9, "pc": 0.2}]))
    assert main(["benchmark", "total", str(path), "--suite", "videophy"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["sa"] == 100
    assert main(["benchmark", "total", str(path), "--suite", "vbench"]) == 2
    assert "must hold numbers by dimension" in capsys.readouterr().err


def wave(frames: int, speed: float, side: int = 64) -> np.ndarray:
    """(frames, side, side, 3): a pattern without repeats that moves to the right by `speed` px a frame."""
    x = np.arange(side)[None] - speed * np.arange(frames)[:, None]
    across = 0.5 + 0.2 * np.sin(x / 3.1) + 0.2 * np.sin(x / 7.7 + 1)
    down = 0.1 * np.sin(np.arange(side) / 4.3)
    return (255 * np.clip(across[:, None, :, None] + down[None, :, None, None], 0, 1)).repeat(3, 3).astype(np.uint8)


def test_flicker_is_the_change_between_neighbours() -> None:
    film = np.zeros((3, 4, 4, 3), np.uint8)
    film[1] = 51
    assert dimensions.temporal_flickering(film) == pytest.approx(0.8)
    assert dimensions.temporal_flickering(film[:1].repeat(3, 0)) == 1
    with pytest.raises(ValueError, match="2 frames or more"):
        dimensions.temporal_flickering(film[:1])


def test_smooth_motion_is_told_from_jerky_motion() -> None:
    pytest.importorskip("cv2")
    smooth = wave(9, 1.0)
    jerky = smooth[[0, 0, 2, 2, 4, 4, 6, 6, 8]]  # every second frame is missing
    shuffled = smooth[[0, 5, 2, 7, 4, 1, 6, 3, 8]]
    found = [dimensions.motion_smoothness(film) for film in (smooth, jerky, shuffled)]
    assert found[0] > 0.99 and found[0] > found[1] + 0.01 > found[2] + 0.01


def test_what_moves_far_and_often_is_dynamic() -> None:
    pytest.importorskip("cv2")
    # 6 px of 256 are 1.5 of 64.
    assert dimensions.dynamic_degree(wave(9, 3.0), 8) and not dimensions.dynamic_degree(wave(9, 0.5), 8)
    # Of 32 frames a second every fourth is looked at.
    assert dimensions.dynamic_degree(wave(33, 0.75), 32) and not dimensions.dynamic_degree(wave(33, 0.75), 8)
    flow = np.zeros((8, 64, 64, 2))
    flow[:2, :20, :20] = 4
    assert dimensions.dynamic(flow, 9) and not dimensions.dynamic(flow, 17), "a quarter of the frames are needed"
    flow[:2] = 0
    flow[:2, :5, :5] = 4
    assert not dimensions.dynamic(flow, 9), "25 of 4096 pixels are no 5 %, and the others stand still"


def test_films_count_for_the_dimensions_of_their_prompts() -> None:
    def one(prompt: str, dimension: str, value: float) -> dict:
        return {
            "prompts": [prompt],
            "dimensions": [dimension],
            "temporal flickering": value,
            "dynamic degree": value > 0.6,
        }

    rows = [one("a", "temporal flickering", 0.9), one("b", "temporal flickering", 0.7), one("c", "scene", 0.1)]
    found = summary(rows)
    assert found["temporal flickering"]["mean"] == pytest.approx(80) and found["temporal flickering"]["n_blocks"] == 2
    assert found["dynamic degree"]["mean"] == pytest.approx(200 / 3), "no prompt is of this dimension: all count"
