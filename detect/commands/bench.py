"""Measure speed and quality side by side, in one run on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from structures.files import write_bytes, write_json


def proposals(
    ground_truth: Annotated[Path, typer.Option(help="A folder in VOC layout, or COCO's instances.json.")],
    split: Annotated[str, typer.Option(help="Image list in the VOC folder's ImageSets/Main.")] = "val",
    images: Annotated[Path | None, typer.Option(help="Folder of the COCO photos.")] = None,
    generator: Annotated[
        list[str] | None,
        typer.Option(help="May be repeated; speeds are held against the first. Default: OpenCV, ours."),
    ] = None,
    timed: Annotated[int, typer.Option(min=0, help="Photos to time, evenly spread; the first warms up; 0: none.")] = 31,
    photos: Annotated[int, typer.Option(min=0, help="Recall is measured on so many, evenly spread; 0 is all.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Keep the boxes here, a folder each; run again, it goes on where it stopped.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw recall to this file (.png, .svg or .pdf).")] = None,
    device: Annotated[str, typer.Option(help="For learned generators: auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Hold proposal generators against each other: seconds a photo, boxes, recall at 0.5 and 0.7, MABO."""
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from detect import bench
    from detect.evaluation import files_read, open_ground_truth, show
    from eval.plots import picture_format, to_picture
    from eval.scores import or_null
    from eval.selection import spread
    from proposals.generators import files_in
    from structures.own_files import check_outputs

    names = list(dict.fromkeys(generator or bench.DEFAULT_GENERATORS))
    boxes = [file for name in names for path in files_in(name) for file in files_read(path)]
    check_outputs([json, plot], [*files_read(ground_truth), images, *boxes])
    form = picture_format(plot) if plot else ""  # now, not when all is measured
    dataset = open_ground_truth(ground_truth, split, images)
    console, facts = Console(stderr=True), bench.circumstances()
    entries = bench.contestants(names, device=device)
    times = {}
    chosen = spread(dataset.image_ids, timed) if timed else []
    counted = 0
    if timed:
        where = f"{facts['machine']['processor']}, {facts['machine']['cores']} cores"
        told = f"timing {max(0, len(chosen) - 1)} photos, after one to warm up, on {where}"
        console.print(told, markup=False, soft_wrap=True)
        seconds = bench.time_in_turn(entries, bench.read_photos(dataset, chosen, console))
        counted, times = len(seconds), bench.time_rows(entries, seconds)
    ids = spread(dataset.image_ids, photos)
    with TemporaryDirectory() as temporary:
        folders = {name: (out or Path(temporary)) / name.replace(":", "-").replace("/", "-") for name in names}
        coverages = {name: bench.cover(name, dataset, ids, folders[name], console, device) for name in names}
    quality = {name: bench.quality_row(coverage, len(dataset.classes)) for name, coverage in coverages.items()}
    show(bench.bench_sheets(times, quality, counted, len(ids)), dataset.notes)
    if json:
        speed = [{"generator": name, "threads": threads, **figures} for (name, threads), figures in times.items()]
        figures = {name: {what: or_null(value) for what, value in row.items()} for name, row in quality.items()}
        write_json(json, {**facts, "photos": len(ids), "timed": counted, "speed": speed, "quality": figures})
    if plot:
        write_bytes(plot, to_picture(bench.bench_plot(coverages), form))
