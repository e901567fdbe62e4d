"""Control: one page to look at, and a small API to switch faults and read what arrived."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any, Optional

from sandbox.faults import FAULTS
from sandbox.receivers import KINDS, Mailbag
from sandbox.web import Answer, Request, Route, WebServer, json_answer, text_answer

SHOWN = 5
STYLE = """
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem} h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
table{border-collapse:collapse;width:100%} td,th{text-align:left;padding:.2rem .8rem .2rem 0;
vertical-align:top;border-bottom:1px solid #8884}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.2rem 0;font-size:.85rem}
.on{font-weight:600;color:#c22} button{font:inherit}
"""
SCRIPT = """
async function flip(name,on){const r=await fetch('/faults',{method:'POST',
headers:{'Content-Type':'application/json'},body:JSON.stringify({name,on})});
if(!r.ok)alert((await r.json()).error);location.reload()}
"""


class ControlServer(WebServer):
    """`links` are the addresses to show, `environment` is what the scripts need."""

    name = "control"

    def __init__(
        self,
        bag: Mailbag,
        *,
        links: Optional[Mapping[str, str]] = None,
        environment: Optional[Mapping[str, str]] = None,
        **options: Any,
    ) -> None:
        self.bag = bag
        self.links: Mapping[str, str] = links or {}
        self.environment: Mapping[str, str] = environment or {}
        super().__init__(**options)

    def routes(self) -> list[Route]:
        """The page and its API."""
        return [
            Route("GET /", self._page),
            Route("GET /faults", self._faults),
            Route("POST /faults", self._switch),
            Route("GET /environment", lambda _request: json_answer(dict(self.environment))),
            Route("GET /received/{kind}", self._received),
            Route("DELETE /received", self._forget),
        ]

    def _faults(self, _request: Request) -> Answer:
        active = self.faults.active()
        rows = [
            {
                "name": fault.name,
                "meaning": fault.meaning,
                "on": fault.name in active,
                "value": active.get(fault.name, fault.default),
            }
            for fault in FAULTS.values()
        ]
        return json_answer(rows)

    def _switch(self, request: Request) -> Answer:
        body = request.json()
        name = body.get("name") if isinstance(body, dict) else None
        if name not in FAULTS:
            return json_answer({"error": f"no fault is called {name!r}"}, 404)
        try:
            if body.get("on", True):
                self.faults.set(name, str(body.get("value") or ""))
            else:
                self.faults.clear(name)
        except ValueError as error:
            return json_answer({"error": str(error)}, 400)
        return json_answer({"active": self.faults.active()})

    def _received(self, request: Request) -> Answer:
        if request.params["kind"] not in KINDS:
            return self.missing(request)
        return json_answer(self.bag.get(request.params["kind"]))

    def _forget(self, _request: Request) -> Answer:
        self.bag.clear()
        return Answer(204)

    def _page(self, _request: Request) -> Answer:
        parts = (
            "<!doctype html><html lang=en><meta charset=utf-8><title>Sandbox</title>",
            f"<style>{STYLE}</style><h1>Payment sandbox</h1>",
            self._links_html(),
            self._active_html(),
            *(self._received_html(kind) for kind in KINDS),
            self._faults_html(),
            f"<script>{SCRIPT}</script></html>",
        )
        return text_answer("".join(parts), 200, "text/html")

    def _links_html(self) -> str:
        rows = "".join(
            f'<tr><th>{html.escape(name)}<td><a href="{html.escape(url)}">{html.escape(url)}</a>'
            for name, url in self.links.items()
        )
        return f"<h2>Where things are</h2><table>{rows}</table>"

    def _active_html(self) -> str:
        active = self.faults.active()
        words = ", ".join(f"{name}={value}" if value else name for name, value in active.items())
        return f"<h2>Faults that are on</h2><p class=on>{html.escape(words) or 'none'}</p>"

    def _received_html(self, kind: str) -> str:
        items = self.bag.get(kind)
        shown = "".join(_item_html(item) for item in reversed(items[-SHOWN:]))
        link = f'<a href="/received/{kind}">all</a>'
        return f"<h2>{kind}: {len(items)} received ({link})</h2>{shown}"

    def _faults_html(self) -> str:
        active = self.faults.active()
        rows = []
        for fault in FAULTS.values():
            on = fault.name in active
            label, flag, mark = ("switch off", "false", " class=on") if on else ("on", "true", "")
            button = f"<button onclick=\"flip('{fault.name}',{flag})\">{label}</button>"
            value = html.escape(active.get(fault.name, fault.default))
            rows.append(
                f"<tr><td{mark}>{fault.name}<td>{html.escape(fault.meaning)}<td>{value}<td>{button}"
            )
        return f"<h2>Faults</h2><table>{''.join(rows)}</table>"


def _item_html(item: Mapping[str, Any]) -> str:
    told = item.get("body", item.get("subject"))
    text = told if isinstance(told, str) else json.dumps(told, indent=1)
    head = f"{item['at']} {item.get('stage', item.get('status', ''))}"
    return f"<pre>{html.escape(head)}\n{html.escape(text)}</pre>"
