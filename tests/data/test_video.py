"""Frames by exact presentation time: every codec, any order, deep in long files; an error where there is no frame."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import H264, number_of, numbers_of, picture, write_video

from polyclock.data import video
from polyclock.data.video import Pictures, pictures_of, read_frames

PYRAMID = "keyint=24:bframes=5:b-pyramid=normal:b-adapt=0:ref=4:scenecut=0"
CODECS = {
    "h264": ("mp4", *H264, "yuv420p"),
    "h264-mkv": ("mkv", *H264, "yuv420p"),
    "h264-pyramid": ("mp4", "libx264", {"preset": "veryfast", "x264-params": PYRAMID}, "yuv420p"),
    "hevc-open-gop": (
        "mp4",
        "libx265",
        {"preset": "ultrafast", "x265-params": "keyint=9:bframes=3:log-level=0"},
        "yuv420p",
    ),
    "av1": ("mp4", "libsvtav1", {"g": "2", "crf": "40", "preset": "12"}, "yuv420p"),
    "vp9": ("webm", "libvpx-vp9", {"g": "10", "deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    "ffv1": ("mkv", "ffv1", {"level": "3", "g": "2"}, "gray16le"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        name: write_video(folder / f"{name}.{suffix}", range(70), 30, encoder, options, form)
        for name, (suffix, encoder, options, form) in CODECS.items()
    }


@pytest.mark.parametrize("name", CODECS)
def test_gives_the_frames_asked_for_in_the_order_asked_for(files: dict[str, Path], name: str) -> None:
    rng = np.random.default_rng(0)
    requests = [[0], [69], [68, 69], [5, 5, 5], [30, 2, 45, 2], list(range(70)), []]
    requests += [(rng.integers(0, 60) + np.arange(8)).tolist() for _ in range(6)]
    requests += [rng.integers(0, 70, 6).tolist() for _ in range(6)]
    for wanted in requests:
        frames = read_frames(files[name], wanted, fps=30)
        assert numbers_of(frames) == wanted
        assert frames.shape[1:] == ((64, 64, 1) if name == "ffv1" else (64, 64, 3))
        assert frames.dtype == (np.uint16 if name == "ffv1" else np.uint8)


@pytest.mark.parametrize("name", ["h264", "hevc-open-gop", "av1"])
def test_pixels_are_those_of_decoding_from_the_start(files: dict[str, Path], name: str) -> None:
    with av.open(str(files[name])) as container:
        whole = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    wanted = [60, 3, 33, 34, 35, 12]
    assert (read_frames(files[name], wanted) == whole[wanted]).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 69), min_size=1, max_size=5), min_size=1, max_size=4))
def test_earlier_requests_never_change_later_ones(files: dict[str, Path], requests: list[list[int]]) -> None:
    """Open decoders are reused where they stand, with pictures left out that nobody wanted so far."""
    for wanted in requests:
        assert numbers_of(read_frames(files["h264"], wanted)) == wanted


@pytest.mark.parametrize("name", ["h264", "h264-pyramid"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_one_frame_at_a_time(files: dict[str, Path], name: str, step: int) -> None:
    for wanted in range(0, 70, step):
        assert numbers_of(read_frames(files[name], [wanted])) == [wanted]


@pytest.mark.parametrize("name", ["h264", "h264-mkv", "hevc-open-gop", "av1", "vp9"])
def test_a_group_of_pictures_is_decoded_once(
    files: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets decoded: from the key picture before the first wanted one to the last, and a few of look-ahead."""
    decoded: list[int] = []
    decode = video._Reel._decode

    def counting(self, packet, wanted=None):
        decoded.append(packet.pts)
        return decode(self, packet, wanted)

    monkeypatch.setattr(video._Reel, "_decode", counting)
    starts = pictures_of(files[name]).starts
    read_frames(files[name], [0])
    for first in (5, 26, 49, 13, 50):
        decoded.clear()
        read_frames(files[name], range(first, first + 8))
        key = max(s for s in starts if s <= first)
        assert len(decoded) <= first + 8 - key + 6
        assert len(set(decoded)) == len(decoded)
    decoded.clear()
    read_frames(files[name], [2, 66])
    assert len(decoded) <= 40


def test_threads_share_a_file(files: dict[str, Path]) -> None:
    wrong: list[object] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(12):
            wanted = rng.integers(0, 70, 4).tolist()
            got = numbers_of(read_frames(files["h264"], wanted))
            wrong.extend([] if got == wanted else [(wanted, got)])

    threads = [threading.Thread(target=read, args=(s,)) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


RATES = [
    Fraction(30000, 1001),
    Fraction(24000, 1001),
    Fraction(60000, 1001),
    Fraction(30),
    Fraction(25),
    Fraction(50, 3),
]


def check_concatenation(fps: Fraction, tick: Fraction | None, lengths: list[int]) -> None:
    """Every episode's first, middle and last frame, with starts that are sums of floating-point durations."""
    tick = tick or 1 / fps
    pts = np.array([round(i / fps / tick) for i in range(sum(lengths))])
    file = Pictures(
        path="long.mp4", pts=pts, starts=np.array([0]), seeks=(0,), tick=tick, rate=fps,
        height=1, width=1, codec="none", form="rgb24", channels=3, deep=False,
    )  # fmt: skip
    start, first = 0.0, 0
    for n in lengths:
        frames = sorted({0, n // 2, n - 1})
        assert file.ranks(frames, fps, Fraction(start)) == [first + f for f in frames]
        with pytest.raises(ValueError, match=r"long.mp4: no picture at .* s, where frame 0 is due"):
            file.ranks([0], fps, Fraction(start) + Fraction(2, 5) / fps)
        start, first = start + n / float(fps), first + n


TICKS = [Fraction(1, 90000), Fraction(1, 15360), Fraction(1, 1000), None]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RATES), st.sampled_from(TICKS), st.lists(st.integers(1, 500), min_size=1, max_size=40))
def test_arithmetic_is_exact_in_a_concatenated_file(fps: Fraction, tick: Fraction | None, lengths: list[int]) -> None:
    check_concatenation(fps, tick, lengths)


@pytest.mark.parametrize("tick", TICKS)
def test_arithmetic_is_exact_after_a_hundred_thousand_frames(tick: Fraction | None) -> None:
    check_concatenation(Fraction(30000, 1001), tick, [997] * 100)


def test_ntsc_rate_in_a_real_file(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    path = write_video(tmp_path / "ntsc.mp4", range(900), rate)
    start = 613 / 29.97002997
    assert numbers_of(read_frames(path, [0, 100, 286, 7], fps=29.97, start=start)) == [613, 713, 899, 620]
    with pytest.raises(ValueError, match="no picture at 30.0300 s, where frame 287 is due"):
        read_frames(path, [287], fps=29.97, start=start)


def test_a_missing_frame_is_an_error_and_not_its_neighbour(tmp_path: Path) -> None:
    ticks = [*range(20), *range(21, 41)]
    path = write_video(tmp_path / "gap.mp4", ticks, 30, ticks=ticks)
    assert numbers_of(read_frames(path, [19, 21], fps=30, start=0)) == [19, 21]
    with pytest.raises(ValueError, match=r"gap.mp4: no picture at 0.6667 s, where frame 20 is due"):
        read_frames(path, [19, 20], fps=30, start=0)
    with pytest.raises(ValueError, match=r"gap.mp4: frame 20 lies 0.7000 s after the first, but 30 frames per second"):
        read_frames(path, [20], fps=30)
    with pytest.raises(ValueError, match="frame 40 was asked for, the file holds 40"):
        read_frames(path, [40], fps=30)


def test_order_does_not_depend_on_when_the_first_picture_is_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mkv", range(10), 30, ticks=range(7, 17))
    assert numbers_of(read_frames(path, [0, 9], fps=30)) == [0, 9]
    with pytest.raises(ValueError, match="no picture at 0.0000 s"):
        read_frames(path, [0], fps=30, start=0)


def trimmed(source: Path, out: Path, seconds: float) -> Path:
    """Packets copied, and the first `seconds` cut off by an edit list, as any tool cuts that does not encode anew."""
    options = {"use_editlist": "1", "avoid_negative_ts": "disabled"}
    with av.open(str(source)) as whole, av.open(str(out), "w", options=options) as part:
        stream = whole.streams.video[0]
        copied = part.add_stream_from_template(stream, opaque=True)
        assert stream.time_base is not None
        for packet in whole.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts -= round(seconds / stream.time_base)
                packet.dts -= round(seconds / stream.time_base)
                packet.stream = copied
                part.mux(packet)
    return out


@pytest.mark.parametrize("name", ["h264", "h264-pyramid", "hevc-open-gop", "av1"])
@pytest.mark.parametrize("first", [1, 3, 10, 25])
def test_what_was_cut_off_in_front_is_not_shown_and_the_rest_is(
    files: dict[str, Path], tmp_path: Path, name: str, first: int
) -> None:
    path = trimmed(files[name], tmp_path / "trimmed.mp4", first / 30)
    assert len(pictures_of(path)) == 70 - first
    for wanted in ([0], [2, 3, 4], [40], [1], list(range(70 - first))):
        assert numbers_of(read_frames(path, wanted, fps=30)) == [first + i for i in wanted]


def test_damage_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["h264"].read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.mp4 cannot be read as a video"):
        read_frames(cut, [0])
    with av.open(str(files["h264"])) as container:
        packets = [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size]
    holed = bytearray(whole)
    at, size, _ = packets[30]
    holed[at : at + size] = bytes(size)
    broken = tmp_path / "holed.mp4"
    broken.write_bytes(holed)
    assert numbers_of(read_frames(broken, [0, 5])) == [0, 5]
    with pytest.raises(ValueError, match=r"holed.mp4: picture \d+ at \d.\d+ s cannot be decoded"):
        read_frames(broken, range(70))
    with pytest.raises(ValueError, match="nowhere.mp4 is not there"):
        read_frames(tmp_path / "nowhere.mp4", [0])


def test_a_file_that_ends_early_behind_a_whole_index(files: dict[str, Path], tmp_path: Path) -> None:
    """An mp4 whose index comes first, cut in the middle of the pictures: what a broken copy looks like."""
    fast = tmp_path / "fast.mp4"
    with av.open(str(files["h264"])) as source, av.open(str(fast), "w", options={"movflags": "faststart"}) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    assert numbers_of(read_frames(fast, [69])) == [69]
    cut = tmp_path / "early.mp4"
    cut.write_bytes(fast.read_bytes()[: int(fast.stat().st_size * 0.7)])
    with pytest.raises(ValueError, match="early.mp4 is cut short: its header names 70 pictures"):
        read_frames(cut, [0])


def test_a_changed_file_is_indexed_anew(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", range(5))
    assert len(pictures_of(path)) == 5
    write_video(path, range(50, 59))
    assert numbers_of(read_frames(path, [8])) == [58]


def box(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area average of (H, W, C) by overlap of pixels, in floating point."""

    def weights(old: int, new: int) -> np.ndarray:
        edges = np.arange(new + 1) * old / new
        low, high = np.maximum(edges[:-1, None], np.arange(old)), np.minimum(edges[1:, None], np.arange(old) + 1)
        return np.clip(high - low, 0, None) * new / old

    return np.einsum("ih,hwc,jw->ijc", weights(plane.shape[0], size[0]), plane, weights(plane.shape[1], size[1]))


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (9, 11)])
def test_resizing_averages_over_area(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    path = tmp_path / "noise.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=30, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    assert (read_frames(path, [0])[0] == pixels).all()
    got = read_frames(path, [0], size=size)
    assert got.shape == (1, *size, 3)
    assert np.abs(got[0] - box(pixels.astype(float), size)).max() < 1.01


def test_small_pictures_still_show_their_number(files: dict[str, Path]) -> None:
    assert numbers_of(read_frames(files["h264"], [3, 44], size=(16, 16))) == [3, 44]
    assert number_of(picture(51)) == 51


def test_sixteen_bit_planes_are_not_mixed(tmp_path: Path) -> None:
    for form, shape in (("gray16le", (8, 12)), ("gbrp16le", (8, 12, 3))):
        rng = np.random.default_rng(1)
        planes = rng.integers(0, 65536, (3, *shape), dtype=np.uint16)
        path = tmp_path / f"{form}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=10, options={"level": "3"})
            stream.width, stream.height, stream.pix_fmt = 12, 8, form
            for plane in planes:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(plane, format=form)))
            container.mux(stream.encode())
        want = planes.reshape(3, 8, 12, -1)
        assert (read_frames(path, [0, 1, 2]) == want).all()
        small = read_frames(path, [1], size=(4, 6))
        assert small.dtype == np.uint16 and (small[0] == want[1, 1::2, 1::2]).all()


REAL = (
    ("g1_pick_bottle", "observation.images.cam_high", 29),
    ("gr00t_dreams_gr1_sim/demo_data/robot_sim.PickNPlace", "observation.images.ego_view", 1),
)


@pytest.mark.parametrize(("folder", "camera", "episode"), REAL)
def test_real_videos(real_data: Path, folder: str, camera: str, episode: int) -> None:
    path = real_data / folder / "videos/chunk-000" / camera / f"episode_{episode:06d}.mp4"
    with av.open(str(path)) as container:
        count, rate = container.streams.video[0].frames, container.streams.video[0].average_rate
        wanted = [count - 1, 101, 102, 103, 0, 57]
        whole = {i: f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(video=0)) if i in wanted}
    assert (read_frames(path, wanted, fps=rate, start=0) == np.stack([whole[i] for i in wanted])).all()
    assert len(pictures_of(path)) == count
