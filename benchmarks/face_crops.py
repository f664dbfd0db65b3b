"""Faces found in photographs against UTKFace's own crops: the calibration, and what it costs in predictions.

    python benchmarks/face_crops.py calibrate    # the constants of manyheads/prediction/face_crops.py, from train files
    python benchmarks/face_crops.py              # test files pasted into larger pictures

The project has UTKFace: run `dvc repro` with experiment=minutes before. Files of the test subset are scaled, turned and
pasted into synthetic pictures of three faces each; a file's border pixels are repeated about it, so that no frame shows
where it ends. A prediction from a found crop is compared with the prediction from the file itself.
"""

import argparse
import functools
import io

import cv2
import numpy as np
import results
from PIL import Image

from manyheads.data.subsets import load_subset
from manyheads.datasets import archives
from manyheads.inputs.image_files import decode_whole
from manyheads.modeling import novelty, saving
from manyheads.paths import Paths, project_root
from manyheads.prediction import face_crops as crops
from manyheads.prediction import face_detection as detection
from manyheads.preprocessing.decoding import Raw, in_processes
from manyheads.runtime import tensorflow

SIDE = 200
CALIBRATION_FILES = 4000
TEST_FILES = 360
FACES = 3
WIDTH, HEIGHT = 2000, 1000
SIZES = ((40, 80), (80, 200), (200, 600))  # side of the pasted file in pixels
ROTATION = 15.0  # degrees to either side
CONTINUED = 100  # pixels about a file that repeat its border
KINDS = ("landmarks", "landmarks, not turned", "box")


def files_of(subset, count):
    """Return the pixels of some files of a subset, and their rows among the packed samples, drawn with seed 0."""
    chosen = subset.take(np.sort(np.random.default_rng(0).permutation(len(subset))[:count]))
    rows = dict(zip(chosen.paths, chosen.rows.tolist(), strict=True))
    found = {}
    for path, data in archives.selected(project_root() / "data/raw/UTKFace.tar.gz", rows.__contains__):
        if path in rows:
            found[path] = decode_whole(data)
    return [found[path] for path in chosen.paths], chosen


def detect_in_file(raw):
    """Return the most central face of each file, or None."""
    outcomes = []
    for _, pixels in raw:
        faces = detection.detect(pixels)
        middle = [abs(face.left + face.width / 2 - SIDE / 2) for face in faces]
        outcomes.append((faces[int(np.argmin(middle))], len(faces)) if faces else (None, 0))
    return outcomes


def calibrate(subset):
    """Print the median place of each landmark and of the box in the files of the training subset, and the spread."""
    files, _ = files_of(subset, CALIBRATION_FILES)
    outcomes = list(in_processes((Raw(i, file) for i, file in enumerate(files)), detect_in_file))
    faces = [face for face, _ in outcomes if face]
    landmarks = np.array([face.landmarks for face in faces])
    boxes = np.array([[face.left, face.top, face.width, face.height] for face in faces])
    median = np.median(landmarks, axis=0)
    spread = 1.4826 * np.median(np.abs(landmarks - median), axis=0)
    print(f"{len(faces)} of {len(files)} files have a face, {sum(n > 1 for _, n in outcomes)} several")
    print("landmarks", median.round(1).tolist(), "spread", spread.round(1).tolist())
    print("box", np.median(boxes, axis=0).round(1).tolist())


def background(random):
    """Return a picture without a face: a gradient, blurred noise or coarse noise."""
    kind = random.integers(3)
    coarse = random.integers(0, 256, [(2, 2, 3), (12, 24, 3), (100, 200, 3)][kind]).astype(np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def pasted(files, random, sizes):
    """Return a picture with the files side by side, and each file's transform from it."""
    picture = background(random)
    transforms = []
    for place, file in enumerate(files):
        side = np.exp(random.uniform(*np.log(sizes)))
        turn = random.uniform(-ROTATION, ROTATION)
        matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), turn, side / SIDE)
        matrix[:, 2] += [WIDTH * (place + 0.5) / FACES - SIDE / 2, HEIGHT / 2 - SIDE / 2]
        continued = cv2.copyMakeBorder(file, *[CONTINUED] * 4, cv2.BORDER_REPLICATE)
        moved = matrix.copy()
        moved[:, 2] -= matrix[:, :2] @ [CONTINUED, CONTINUED]
        if side < SIDE:  # averages pixels that the transform would skip
            factor = side / SIDE
            continued = cv2.resize(continued, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            moved[:, :2] /= factor
        inside = cv2.warpAffine(np.full(continued.shape[:2], 255, np.uint8), moved, (WIDTH, HEIGHT))
        shown = cv2.warpAffine(continued, moved, (WIDTH, HEIGHT))
        picture[inside > 127] = shown[inside > 127]
        transforms.append(crops.inverse(matrix))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=92)
    return file.getvalue(), transforms


def placement(face, kind):
    """Return the transform from a picture to the crop of a face by one of ``KINDS``."""
    calibration = crops.CALIBRATIONS["utkface"]
    target = np.array(calibration.landmarks)
    if kind == "landmarks":
        return crops.similarity(face.landmarks, target)
    if kind == "box":
        scale = np.sqrt(170.1 * 223.4 / (face.width * face.height))
        middle = np.array([face.left + face.width / 2, face.top + face.height / 2])
        return np.column_stack([np.eye(2) * scale, np.array([97.9, 82.1]) - scale * middle])
    turned = crops.similarity(face.landmarks, target)
    scale = np.sqrt(np.linalg.det(turned[:, :2]))
    return np.column_stack([np.eye(2) * scale, target.mean(axis=0) - scale * face.landmarks.mean(axis=0)])


def overlap(first, second):
    """Return the intersection over union of two crops in a picture, given by their transforms."""
    squares = [
        crops.transformed(crops.inverse(each), crops.CORNERS * SIDE).astype(np.float32) for each in (first, second)
    ]
    common, _ = cv2.intersectConvexConvex(*squares)
    return common / (sum(cv2.contourArea(square) for square in squares) - common)


def measure(sizes, chunk):
    """Return for each picture: the crops of each file by ``KINDS``, their overlaps, and false faces."""
    outcomes = []
    for number, files in chunk:
        data, transforms = pasted(files, np.random.default_rng(number), sizes)
        pixels = decode_whole(data)
        faces = detection.detect(pixels)
        found, used = [], set()
        for transform in transforms:
            overlaps = [overlap(placement(face, "landmarks"), transform) for face in faces]
            best = int(np.argmax(overlaps)) if faces else -1
            if best < 0 or overlaps[best] < 0.4:
                found.append(None)
                continue
            used.add(best)
            shown = {kind: placement(faces[best], kind) for kind in KINDS}
            found.append(
                {kind: (crops.crop(pixels, each, SIDE), overlap(each, transform)) for kind, each in shown.items()}
            )
        outcomes.append((found, len(faces) - len(used)))
    return outcomes


def jittered(file, random):
    """Return a file shifted, scaled and turned as the calibration scatters: by 3 pixels, 3 % and 2.5 degrees."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), random.normal(0, 2.5), np.exp(random.normal(0, 0.03)))
    matrix[:, 2] += random.normal(0, 3, 2)
    return cv2.warpAffine(file, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)


def encoded(kind, pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=0)
    return kind.encode(file.getvalue()).values


def compared(saved, predictor, files, crops_of, labels):
    """Return cells that compare predictions from crops with those from the files: age, race, gender, notes."""
    kind = saved.card.inputs["image"]
    heads = saved.card.heads
    both = []
    for images in (files, crops_of):
        outputs, features = predictor.with_features({"image": np.stack([encoded(kind, each) for each in images])})
        values = {name: head.values(outputs[name]) for name, head in heads.items()}
        far = novelty.distances(features, saved.directions) > saved.card.reference.distance_limit
        both.append((values, far))
    (before, _), (after, far) = both
    age = np.abs(before["age"] - after["age"])
    same = [f"{np.mean(before[name] == after[name]):.1%}" for name in ("race", "gender")]
    errors = [np.abs(values["age"] - labels["age"]).mean() for values in (before, after)]
    right = [f"{np.mean(values['race'] == labels['race']):.3f}" for values in (before, after)]
    return [
        f"{np.median(age):.1f}", f"{np.quantile(age, 0.9):.1f}", *same,
        f"{errors[0]:.2f} → {errors[1]:.2f}", " → ".join(right), f"{far.mean():.1%}",
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["calibrate", "measure"], default="measure")
    parser.add_argument("--files", type=int, default=TEST_FILES)
    options = parser.parse_args()
    layout = Paths(project_root())
    card = saving.read_card(layout.model)
    if options.what == "calibrate":
        calibrate(load_subset(layout, card.heads, card.inputs, "train"))
        return
    tensorflow.require_tensorflow()
    saved = saving.load(layout.model)
    predictor = saved.predictor()
    files, subset = files_of(load_subset(layout, card.heads, card.inputs, "test"), options.files)
    labels = subset.labels
    random = np.random.default_rng(1)
    rows = [
        ["the file, moved by 3 px, 3 %, 2.5°", "", "", "",
         *compared(saved, predictor, files, [jittered(file, random) for file in files], labels)]
    ]  # fmt: skip
    found_files = list(in_processes((Raw(i, file) for i, file in enumerate(files)), detect_in_file))
    known = [i for i, (face, _) in enumerate(found_files) if face]
    crops_of = [crops.crop_of(files[i], found_files[i][0], crops.CALIBRATIONS["utkface"]) for i in known]
    rows.append(
        ["found in the file itself", f"{len(known) / len(files):.1%}", "", "",
         *compared(saved, predictor, [files[i] for i in known], crops_of, {n: v[known] for n, v in labels.items()})]
    )  # fmt: skip
    for sizes in SIZES:
        pictures = [Raw(i, files[i * FACES : (i + 1) * FACES]) for i in range(len(files) // FACES)]
        outcomes = list(in_processes(pictures, functools.partial(measure, sizes), chunk=4))
        found = [each for faces, _ in outcomes for each in faces]
        known = [i for i, each in enumerate(found) if each]
        wrong = sum(each for _, each in outcomes)
        for kind in KINDS:
            cells = compared(
                saved, predictor, [files[i] for i in known], [found[i][kind][0] for i in known],
                {name: values[known] for name, values in labels.items()},
            )  # fmt: skip
            iou = np.median([found[i][kind][1] for i in known])
            name = f"file of {sizes[0]} to {sizes[1]} px in a picture, crop by {kind}"
            rows.append([name, f"{len(known) / len(found):.1%}", f"{wrong / len(outcomes):.3f}", f"{iou:.2f}", *cells])
    results.write(
        "face_crops",
        "python benchmarks/face_crops.py",
        ["crop", "found", "false faces in a picture", "overlap", "age apart, median", "90 %", "same race",
         "same gender", "age MAE", "race accuracy", "marked as far"],
        rows,
        f"Each row compares predictions from {len(files):,} files of the test subset with those from the crops. "
        f"Pictures have {WIDTH} x {HEIGHT} pixels and {FACES} faces, turned by up to {ROTATION:.0f}° to either side. "
        "Overlap: the median intersection over union of the crop and the file in the picture.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
