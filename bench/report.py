#!/usr/bin/env python3
"""Makes the tables of docs/benchmarks.md and the plots in docs/benchmarks/ from bench/results/*.json, and from nothing
else: the same results give the same bytes.

A table replaces what is between `<!-- NAME -->` and `<!-- end of NAME -->`, where NAME.json holds the results (of the
benchmark that it names: there may be several, of different machines); the text around it is written by hand. Needs
matplotlib (Debian's python3-matplotlib).
"""

import io
import json
import math
import pathlib
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
COLORS = ("#33608c", "#9db8d2", "#c8a35f")
TARGET_COLOR = "#b03a2e"
RIVALS = {"onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}
REQUESTS_FOR_P99 = 100
GEOMETRIC_MEAN_TARGET = 0.9  # against ONNX Runtime
HARDER_TRANSPORTS = ("REST", "gRPC")  # that have a target
TRANSPORT_TARGETS = {  # (waiting, bytes): at least so many times opsplit's hop, payload untouched
    ("spinning", 4 << 10): 100,
    ("spinning", 4 << 20): 1000,
    ("sleeping", 4 << 10): 20,
    ("sleeping", 4 << 20): 50,
}

STYLE = {
    "svg.hashsalt": "opsplit",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.left": False,
}


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def met(is_met):
    return "met" if is_met else "**missed**"


def ms(us):
    return f"{us / 1e3:.3g}" if us < 1e4 else f"{us / 1e3:.1f}"


def p50_p99(row, prefix=""):
    """A p99 of few requests would be their worst, and is not shown."""
    p99 = ms(row[prefix + "p99_us"]) if row[prefix + "requests"] >= REQUESTS_FOR_P99 else "-"
    return f"{ms(row[prefix + 'p50_us'])} / {p99} ({row[prefix + 'requests']:,})"


def spread(row):
    return f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"


def at_most(row):
    """The target and whether it is met, as two cells."""
    if "target" not in row:
        return "", ""
    return f"<= {row['target']:g}", met(row["ratio"] <= row["target"])


def geometric_mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def bars(name, title, labels, series, axis, log=False):
    """A group of horizontal bars for each label, and a line at 1. `series`: (name, a list of (value, low, high,
    target or None), or of None where there is no bar)."""
    with plt.rc_context(STYLE):
        height = 0.8 / len(series)
        figure, plot = plt.subplots(figsize=(7, 0.9 + 0.22 * len(labels) * max(1.4, len(series))))
        for index, (what, values) in enumerate(series):
            there = [(at, *value) for at, value in enumerate(values) if value]
            offset = (index - (len(series) - 1) / 2) * height
            ys = [bar[0] + offset for bar in there]
            middle = [bar[1] for bar in there]
            error = [[bar[1] - bar[2] for bar in there], [bar[3] - bar[1] for bar in there]]
            plot.barh(ys, middle, height * 0.9, label=what, color=COLORS[index])
            plot.errorbar(middle, ys, xerr=error, fmt="none", ecolor="#444444", elinewidth=0.8)
            for y, (_, value, _, high, target) in zip(ys, there):
                text = f"{value:.3g}" if value < 100 else f"{value:,.0f}"
                plot.annotate(text, (high, y), (3, 0), textcoords="offset points", va="center", fontsize=7)
                if target:
                    plot.vlines(target, y - height / 2, y + height / 2, color=TARGET_COLOR, linewidth=1.6)
        plot.axvline(1, color="#222222", linewidth=0.9)
        if any(value and value[3] for _, values in series for value in values):
            plot.plot([], [], color=TARGET_COLOR, linewidth=1.6, label="target")
        if log:
            plot.set_xscale("log")
        plot.set_yticks(range(len(labels)), labels)
        plot.margins(y=0.02)
        plot.invert_yaxis()
        plot.set_xlabel(axis)
        plot.set_title(title, fontsize=10, loc="left")
        if plot.get_legend_handles_labels()[0]:
            plot.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        PLOTS.mkdir(exist_ok=True)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        lines = [line.rstrip() for line in svg.getvalue().splitlines()]
        (PLOTS / f"{name}.svg").write_text("\n".join(lines) + "\n")
        plt.close(figure)


def interval(row):
    return (row["ratio"], row["ratio_low"], row["ratio_high"], row.get("target"))


def report_models(rows, stem):
    for rival, name in RIVALS.items():
        mine = [row for row in rows if row["rival"] == rival]
        measured = [row for row in mine if "ratio" in row]
        yield f"### Against {name}\n"
        yield table(
            [
                "model",
                "threads",
                "opsplit, p50 / p99 ms (requests)",
                f"{name}, p50 / p99 ms (requests)",
                "ratio",
                "quartiles",
                "target",
                "",
                "worst error",
            ],
            [
                [
                    row["model"],
                    row["threads"],
                    p50_p99(row),
                    p50_p99(row, "rival_"),
                    f"{row['ratio']:.3f}",
                    spread(row),
                    *at_most(row),
                    f"{row['worst_error']:.0e}",
                ]
                for row in measured
            ],
        )
        yield ""
        threads = sorted({row["threads"] for row in measured})
        for count in threads:
            ratios = [row["ratio"] for row in measured if row["threads"] == count]
            mean = geometric_mean(ratios)
            text = f"Geometric mean of {len(ratios)} models, {count} thread{'s' * (count > 1)}: **{mean:.3f}**"
            if rival == "onnxruntime":
                text += f" (target <= {GEOMETRIC_MEAN_TARGET:g}: {met(mean <= GEOMETRIC_MEAN_TARGET)})"
            yield text + ".\n"
        for row in mine:
            if "reason" in row:
                yield f"- not measured, on {row['threads']} CPU{'s' * (row['threads'] > 1)}: {row['reason']}"
        models = list(dict.fromkeys(row["model"] for row in measured))
        by_key = {(row["model"], row["threads"]): interval(row) for row in measured}
        bars(
            f"{stem}-{rival}",
            f"fused, latency / {name}'s: below 1 is faster",
            models,
            [
                (f"{count} threads" if count > 1 else "1 thread", [by_key.get((model, count)) for model in models])
                for count in threads
            ],
            f"ratio of medians within a round, and its quartiles; the line is {name}",
        )
        yield f"\n![Latency against {name}](benchmarks/{stem}-{rival}.svg)\n"


def report_split(rows, stem):
    yield table(
        [
            "split",
            "processes",
            "tasks",
            "p50 / p99 ms (requests)",
            "compared with",
            "its p50 / p99 ms (requests)",
            "ratio",
            "quartiles",
            "target",
            "",
            "worst error",
        ],
        [
            [
                row["run"],
                row["operators"],
                row["tasks"],
                p50_p99(row),
                row["versus"],
                p50_p99(row, "versus_"),
                f"{row['ratio']:.3f}",
                spread(row),
                *at_most(row),
                f"{row['worst_error']:.0e}",
            ]
            for row in rows
        ],
    )
    bars(
        stem,
        "light_resnet50 split, latency / that of the same work unsplit",
        [f"{row['run']} / {row['versus']}" for row in rows],
        [(None, [interval(row) for row in rows])],
        "ratio of medians within a round, and its quartiles",
    )
    yield f"\n![Split against unsplit](benchmarks/{stem}.svg)"


def report_pipeline(rows, stem):
    def name(row):
        return f"{RIVALS.get(row['runtime'], row['runtime'])}, {row['run']}"

    def verdict(row):
        return ("", "") if "target" not in row else (f">= {row['target']:g}", met(row["ratio"] >= row["target"]))

    yield table(
        ["model", "run", "requests/s", "compared with", "ratio", "quartiles", "target", "", "worst error"],
        [
            [
                row["model"],
                name(row),
                f"{row['requests_per_second']:.1f}",
                row["versus"],
                f"{row['ratio']:.3f}",
                spread(row),
                *verdict(row),
                f"{row['worst_error']:.0e}",
            ]
            for row in rows
        ],
    )
    models = list(dict.fromkeys(row["model"] for row in rows))
    labels = list(dict.fromkeys(map(name, rows)))
    by_key = {(row["model"], name(row)): interval(row) for row in rows}
    bars(
        stem,
        "throughput on two cores / ONNX Runtime's best: above 1 is faster",
        labels,
        [(model, [by_key.get((model, label)) for label in labels]) for model in models],
        "ratio of rates within a round, and its quartiles",
    )
    yield f"\n![Throughput](benchmarks/{stem}.svg)"


def report_start(rows, stem):
    def verdict(row):
        if "target_ms" in row:
            return f"<= {row['target_ms']} ms", met(row["p50_ms"] <= row["target_ms"])
        return at_most(row)

    yield table(
        ["what", "p50 ms", "worst ms", "/ ONNX Runtime's", "quartiles", "target", "", "repetitions"],
        [
            [
                row["run"],
                f"{row['p50_ms']:.1f}",
                f"{row['worst_ms']:.1f}",
                f"{row['ratio']:.2f}" if "ratio" in row else "",
                spread(row) if "ratio" in row else "",
                *verdict(row),
                row["repetitions"],
            ]
            for row in rows
        ],
    )


def size_name(size):
    for unit, factor in (("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


def transport_target(row):
    if row["touched"] or row["transport"] not in HARDER_TRANSPORTS:
        return None
    return TRANSPORT_TARGETS.get((row["waiting"], row["bytes"]))


def report_transports(rows, stem):
    """A table and a plot for each way to wait, on as many cores, untouched and touched."""
    groups = {}
    for row in rows:
        groups.setdefault((row["waiting"], row["cores"], row["touched"]), []).append(row)
    for (waiting, cores, touched), same in groups.items():
        title = f"{waiting}, on {cores} core{'s' * (cores > 1)}, "
        title += "payload written and read in full" if touched else "payload untouched"
        sizes = sorted({row["bytes"] for row in same})
        names = list(dict.fromkeys((row["transport"], row["variant"]) for row in same))
        by_key = {(row["transport"], row["variant"], row["bytes"]): row for row in same if "ratio_to_opsplit" in row}

        def cells(name, size, by_key=by_key):
            row = by_key.get((*name, size))
            if not row:
                return "", ""
            ratio, target = row["ratio_to_opsplit"], transport_target(row)
            verdict = f" (target >= {target:,}: {met(ratio >= target)})" if target else ""
            text = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
            return f"{row['p50_us']:.4g} / {row['p99_us']:.4g}", text + verdict

        def bar(name, size, by_key=by_key):
            row = by_key.get((*name, size))
            return row and (*[row["ratio_to_opsplit"]] * 3, transport_target(row))

        heads = [cell for size in sizes for cell in (f"{size_name(size)}: p50 / p99 us", "x opsplit")]
        yield f"**{title}**\n"
        yield table(
            ["transport", "variant", *heads],
            [[*name, *(cell for size in sizes for cell in cells(name, size))] for name in names],
        )
        file = f"{stem}-{waiting}-{cores}core" + ("-touched" if touched else "")
        bars(
            file,
            f"one hop / opsplit's: {title}",
            [", ".join(name) for name in names],
            [(size_name(size), [bar(name, size) for name in names]) for size in sizes],
            "times as long as opsplit's hop of the same size",
            log=True,
        )
        yield f"\n![{title}](benchmarks/{file}.svg)\n"


def report_overhead(rows, stem):
    def us(row, figure):
        return f"{row[f'{figure}_p50_us']:.4g} / {row[f'{figure}_p99_us']:.4g}" if f"{figure}_p50_us" in row else ""

    floors = [row for row in rows if "floor" not in row]
    yield table(["floor", "hop, p50 / p99 us"], [[row["name"], us(row, "hop")] for row in floors])
    yield ""
    yield table(
        [
            "split, placement",
            "processes",
            "hops",
            "latency, p50 / p99 us",
            "in tasks",
            "hop",
            "between",
            "floor",
            "hop / floor",
            "least to greatest",
            "target",
            "",
            "between / floor",
        ],
        [
            [
                row["name"],
                row["operators"] + 1,
                row["hops"],
                us(row, "latency"),
                us(row, "run"),
                us(row, "hop"),
                us(row, "between"),
                row["floor"],
                f"{row['ratio']:.2f}",
                spread(row),
                *at_most(row),
                f"{row['between_ratio']:.2f}" if "between_ratio" in row else "",
            ]
            for row in rows
            if "floor" in row
        ],
    )


def report_hop(rows, stem):
    def compared(row):
        for one in row["compared"]:
            target = f" (target <= {one['target']:g}: {met(one['ratio'] <= one['target'])})" if "target" in one else ""
            yield f"{one['ratio']:.3g} x {one['with']}{target}"

    yield table(
        ["contender", "p50 / p99 us", "bytes copied", "compared"],
        [
            [
                row["name"],
                f"{row['p50_us']:.4g} / {row['p99_us']:.4g}",
                row.get("bytes_copied", ""),
                "<br>".join(compared(row)),
            ]
            for row in rows
        ],
    )


def report_chaos(rows, stem):
    def verdict(row):
        units = {"under_way_p99": " x", "under_way_max": " x", "ratio": " x"}
        for figure, target in row["targets"].items():
            name = figure.removesuffix("_ms").replace("_", " ")
            text = f"{name} {row[figure]:g} <= {target:g}{units.get(figure, ' ms')}"
            yield f"{text}: {met(row[figure] <= target)}"

    def figures(row, *names):
        return " / ".join(f"{row[name]:g}" for name in names) if names[0] in row else ""

    yield table(
        [
            "struck",
            "faults",
            "requests",
            "lost, doubled, wrong",
            "recovery ms, p50 / p99 / max",
            "taken over ms, max",
            "longest silence ms",
            "before ms, p99 / max",
            "under way ms, p99 / max",
            "targets",
        ],
        [
            [
                row["run"],
                row.get("faults", ""),
                f"{row['requests']:,}" if "requests" in row else "",
                figures(row, "lost", "doubled", "wrong"),
                figures(row, "recovery_p50_ms", "recovery_p99_ms", "recovery_max_ms"),
                figures(row, "adopted_max_ms"),
                figures(row, "silence_ms"),
                figures(row, "before_p99_ms", "before_max_ms"),
                figures(row, "under_way_p99_ms", "under_way_max_ms"),
                "<br>".join(verdict(row)),
            ]
            for row in rows
        ],
    )


def report_swap(rows, stem):
    yield table(
        [
            "Relu is",
            "swaps",
            "requests",
            "lost, doubled, wrong, refused",
            "p50 / p99 / max ms",
            "p99 / alone",
            "quartiles",
            "target",
            "",
        ],
        [
            [
                row["run"],
                row.get("swaps", ""),
                f"{row['requests']:,}",
                " / ".join(str(row[count]) for count in ("lost", "doubled", "wrong", "refused")),
                " / ".join(f"{row[figure]:g}" for figure in ("p50_ms", "p99_ms", "max_ms")),
                f"{row['ratio']:.2f}" if "ratio" in row else "",
                spread(row) if "ratio" in row else "",
                *at_most(row),
            ]
            for row in rows
        ],
    )


def report_python_hop(rows, stem):
    yield table(
        ["operators", "a hop, us", "compared with", "ratio", "quartiles", "target", "", "undisturbed, us", "its ratio"],
        [
            [
                row["name"],
                f"{row['hop_us']:.2f}",
                row.get("versus", ""),
                f"{row['ratio']:.2f}" if "ratio" in row else "",
                spread(row) if "ratio" in row else "",
                *at_most(row),
                f"{row['undisturbed_us']:.2f}",
                f"{row['undisturbed_ratio']:.2f}" if "undisturbed_ratio" in row else "",
            ]
            for row in rows
        ],
    )


REPORTS = {
    "chaos": report_chaos,
    "swap": report_swap,
    "python_hop": report_python_hop,
    "models": report_models,
    "split": report_split,
    "pipeline": report_pipeline,
    "start": report_start,
    "transports": report_transports,
    "overhead": report_overhead,
    "hop": report_hop,
}


def provenance(result):
    """On what it was measured, as the last lines of a table's part."""
    machine = result.get("machine", {})
    versions = {name: text for name, text in result.get("versions", {}).items() if "\n" not in text}
    where = f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, {machine.get('memory_gib', '?')} GiB"
    yield f"`{result['command']}`, {result.get('date', '?')}, commit {result.get('commit', '?')}; {where}, "
    yield f"{machine.get('system', '?')}, Linux {machine.get('kernel', '?')}; "
    yield ", ".join(f"{name} {text}" for name, text in sorted(versions.items())) + ".\n"
    for name, text in sorted(result.get("versions", {}).items()):
        if "\n" in text:
            yield f"\n<details><summary>{name}</summary>\n\n```\n{text.strip()}\n```\n</details>\n"


def main():
    page = PAGE.read_text()
    for file in sorted(RESULTS.glob("*.json")):
        result = json.loads(file.read_text())
        name, report = file.stem, REPORTS[result["benchmark"]]
        text = "\n".join(report(result["rows"], name)).strip() + "\n\n" + "".join(provenance(result)).strip()
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not marks.search(page):
            raise SystemExit(f"docs/benchmarks.md: no '<!-- {name} -->' and '<!-- end of {name} -->' for {file.name}")
        page = marks.sub(lambda match, text=text: match.group(1) + "\n" + text + "\n\n" + match.group(2), page)
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
