"""promtool unit tests out of the proofs: each rule is silent, waits, fires, and resolves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.prometheus.rule import Proof, Rule, Series

Built = tuple[Rule, "dict[str, Any]"]


def promtool_tests(name: str, rules: Sequence[Built]) -> dict[str, Any]:
    """The test file of one rule file."""
    return {
        "rule_files": [f"../rules/{name}.yml", *_recorded(rules)],
        "evaluation_interval": "1m",
        "tests": _together([_test(rule, made, rules) for rule, made in rules]),
    }


def _together(tests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same tests, in as few as they fit in: no two of one alert and none with a series of
    another's. promtool evaluates every rule of the file for each test, and so would take a minute
    for what takes a second."""
    joined: list[tuple[set[str], dict[str, Any]]] = []
    for test in tests:
        series = (series["series"] for series in test["input_series"])
        taken = {test["name"].split()[0], *series}
        place = next(
            (at for at, (theirs, _) in enumerate(joined) if theirs.isdisjoint(taken)), None
        )
        if place is None:
            joined.append((taken, test))
        else:
            joined[place] = (joined[place][0] | taken, _both(joined[place][1], test))
    return [test for _taken, test in joined]


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    names = "; ".join(test["name"].partition(":")[0] for test in (one, other))
    parts = {part: [*one.get(part, []), *rows] for part, rows in other.items() if part not in _SAID}
    return {**one, **parts, "name": names}


_SAID = ("name", "interval")


def _recorded(rules: Sequence[Built]) -> list[str]:
    needed = any("component:payment_api" in rule.expr for rule, _ in rules)
    return ["../rules/recording.yml"] if needed else []


def _test(rule: Rule, made: dict[str, Any], rules: Sequence[Built]) -> dict[str, Any]:
    proof = rule.proof
    start, end = proof.before, proof.before + proof.wrong
    fires = end - 1
    checks = [(start - 1, False), (fires, True), (end + proof.after - 1, False)]
    silent = max(int(rule.hold), proof.spared)
    if silent:
        checks.insert(1, (start + silent - 1, False))
    return {
        "name": f"{rule.alert} ({rule.severity}): {rule.expr}",
        "interval": "1m",
        "input_series": [_series(series, proof) for series in proof.series],
        **_checks(rule, made, rules, checks),
    }


def _series(series: Series, proof: Proof) -> dict[str, str]:
    phases = (
        (series.good, proof.before),
        (series.bad, proof.wrong),
        (series.good, proof.after),
    )
    started, words = 0.0, []
    for text, steps in phases:
        words.append(_phase(text, steps, started))
        started += steps * 60
    return {"series": series.name, "values": " ".join(words)}


def _phase(text: str, steps: int, started: float) -> str:
    """`steps` samples. A clock (`0+60`) goes on from where it is."""
    if text == "_":
        return f"_x{steps}"
    value, plus, growth = text.partition("+")
    if plus and growth == "60":
        value = f"{started:g}"
    return f"{value}+{growth or 0}x{steps - 1}"


def _checks(
    rule: Rule, made: dict[str, Any], rules: Sequence[Built], checks: Sequence[tuple[int, bool]]
) -> dict[str, Any]:
    """With a summary: the whole alert. Without: that it fires, its figure being the matter of
    how many minutes."""
    if rule.proof.summary:
        rows = [(minute, _firing(rule, made, rules) if fires else []) for minute, fires in checks]
        return {"alert_rule_test": [_alert_check(rule, *row) for row in rows]}
    return {"promql_expr_test": [_firing_check(rule, minute, fires) for minute, fires in checks]}


def _alert_check(rule: Rule, minute: int, expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {"eval_time": f"{minute}m", "alertname": rule.alert, "exp_alerts": expected}


def _firing(rule: Rule, made: dict[str, Any], rules: Sequence[Built]) -> list[dict[str, Any]]:
    """The alert itself and those of the same name that its values bring along."""
    expected = [_expected(rule, made, rule.proof.summary)]
    for other, its in rules:
        if other.alert == rule.alert and other.severity in rule.proof.also:
            expected.append(_expected(rule, its, rule.proof.also[other.severity]))
    return expected


def _expected(rule: Rule, made: dict[str, Any], summary: str) -> dict[str, Any]:
    labels = {k: v for k, v in made["labels"].items() if "{{" not in v}
    annotations = {**made["annotations"], "summary": summary}
    return {"exp_labels": {**labels, **rule.proof.labels}, "exp_annotations": annotations}


def _firing_check(rule: Rule, minute: int, fires: bool) -> dict[str, Any]:
    labels = {**rule.all_labels(), **rule.proof.labels, "alertname": rule.alert}
    inside = ",".join(f'{name}="{text}"' for name, text in sorted(labels.items()))
    expr = f'count(ALERTS{{alertstate="firing",{inside}}})'
    samples = [{"labels": "{}", "value": 1}] if fires else []
    return {"expr": expr, "eval_time": f"{minute}m", "exp_samples": samples}
