"""Requests a second of the command ``serve`` and their times, and its memory under bad requests.

    python benchmarks/serving.py --model models --pictures FOLDER

The server and its clients share the machine. A client is a process that sends one picture after the other over one
connection and does next to nothing else.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import psutil
import results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import bad_requests  # the tests send them, too

CLIENTS = (1, 4, 16, 64)
SECONDS = 10


def client(port, pictures, begin, seconds, times):
    """Ask until the time is over, and put the seconds of each answer into a queue."""
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(len(each)).encode() + each for each in pictures]
    found = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        begin.wait()
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            connection.sendall(requests[len(found) % len(requests)])
            answer = connection.recv(65536)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            while len(body) < length:
                body += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
            found.append(time.perf_counter() - began)
    times.put(found)


def measure(port, pictures, clients, seconds):
    """Return the seconds of all answers, in order."""
    context = multiprocessing.get_context("fork")
    begin, times = context.Event(), context.Queue()
    share = max(1, len(pictures) // clients)
    started = [
        context.Process(target=client, args=(port, pictures[i * share :] or pictures, begin, seconds, times))
        for i in range(clients)
    ]
    for each in started:
        each.start()
    time.sleep(0.5)
    begin.set()
    found = sorted(second for _ in started for second in times.get())
    for each in started:
        each.join()
    return found


def ask(port, picture):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/predict", picture, {"Content-Type": "image/jpeg"})
    began = time.perf_counter()
    answer = connection.getresponse().read()
    connection.close()
    return json.loads(answer), time.perf_counter() - began


def memory(process):
    """Return the resident memory of a process and its children in MB."""
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 2**20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models", help="a trained model of pictures")
    parser.add_argument("--pictures", type=Path, required=True, help="a folder of JPEG files")
    parser.add_argument("--bad", type=int, default=1000, help="number of bad requests")
    options = parser.parse_args()
    pictures = [path.read_bytes() for path in islice(sorted(options.pictures.rglob("*.jpg")), 640)]
    port = free_port()
    command = [sys.executable, "-m", "manyheads", "serve", "--model", options.model, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        process = psutil.Process(server.pid)
        first = [ask(port, pictures[0])[1] for _ in range(5)]
        rows = []
        for clients in CLIENTS:
            measure(port, pictures, clients, 2)
            load = os.getloadavg()[0]
            before = time.process_time(), sum(process.cpu_times()[:2])
            times = measure(port, pictures, clients, SECONDS)
            cpu = (sum(process.cpu_times()[:2]) - before[1]) / len(times)
            p50, p95, p99 = (1000 * times[int(len(times) * share)] for share in (0.5, 0.95, 0.99))
            row = [
                clients,
                f"{len(times) / SECONDS:.0f}",
                f"{p50:.1f}",
                f"{p95:.1f}",
                f"{p99:.1f}",
                f"{1000 * cpu:.1f}",
                f"{load:.1f}",
            ]
            rows.append(row)
            print(*row, flush=True)
        good = [ask(port, picture)[0] for picture in pictures[:20]]
        bad = [*bad_requests.kinds(pictures[0]).items()]
        random.seed(0)
        send_bad(port, bad, pictures[0], len(bad))
        before = memory(process)
        wrong = send_bad(port, bad, pictures[0], options.bad)
        time.sleep(1)
        after = memory(process)
        same = [ask(port, picture)[0] for picture in pictures[:20]] == good
        took = [f"{1000 * each:.1f}" for each in first]
        note = (
            f"First request {took[0]} ms, the next four {', '.join(took[1:])}. {options.bad} bad requests of "
            f"{len(bad) + 1} kinds, {wrong} of them not refused as expected; the server is "
            f"{'alive' if server.poll() is None else 'dead'}, its answers to 20 good requests are "
            f"{'unchanged' if same else 'changed'}. Resident memory, with the decoding processes: {before:.0f} MB "
            f"before, {after:.0f} MB after. Server and clients share the cores."
        )
        print(note)
        header = [
            "clients",
            "images/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "CPU ms an image, without decoding",
            "load before",
        ]
        results.write("serving", "python benchmarks/serving.py", header, rows, note)
    finally:
        server.send_signal(signal.SIGTERM)
        print("exit status", server.wait(60))


def send_bad(port, bad, good, count):
    """Send bad requests, and between them some that leave early; return how many were not refused as expected."""
    wrong = 0
    for number in range(count):
        name, each = bad[number % len(bad)]
        if number % 10 == 9:
            data = bad_requests.request(good)
            bad_requests.leave(port, data[: random.randrange(10, len(data) + 1)])
            continue
        answer = bad_requests.send(port, each.pieces())
        if not each.is_answered_by(answer):
            wrong += 1
            print(f"{name}: {answer}, expected {each.expected}")
    return wrong


if __name__ == "__main__":
    main()
