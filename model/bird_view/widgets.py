"""The page's widgets: a drawer to ask and review in, and Slicer's views.

Shows the state (page_state.py) and calls actions by name (viewer.py); knows nothing about what
they do.
"""

from __future__ import annotations

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from bird_view.BiRDLib.question import EXTENTS
from bird_view.BiRDLib.scene import PLANES
from bird_view.page_state import Page
from bird_view.reviewing import SHOWN_COLUMNS
from bird_view.viewer import Viewer

_STYLE = """
html { overflow: hidden; }
.bird-lines { font-size: 0.8rem; }
.bird-lines td, .bird-lines th { padding: 0 5px !important; white-space: nowrap; }
.bird-lines td, .bird-lines th { height: 28px !important; }
.bird-lines tr, .bird-lines th { cursor: pointer; }
.bird-lines .chosen { background: rgba(255, 255, 255, 0.16); }
.bird-lines .rejected, .bird-lines .absent { opacity: 0.5; }
.bird-words { text-transform: none !important; letter-spacing: normal !important; }
"""
_FIELD = {"density": "compact", "hide_details": True, "variant": "outlined"}
_BUTTON = {"size": "small", "variant": "tonal", "classes": "bird-words"}
_ROW = "d-flex flex-wrap ga-2 my-2 align-center"
_SHOWN_WORDS = 5  # of the log


def build_page(viewer: Viewer) -> VAppLayout:
    """The page of a viewer, as its trame server's main template."""
    name = viewer.typed.name
    with VAppLayout(viewer.server) as page:
        page.root.theme = "dark"
        client.Style(_STYLE)
        with v3.VAppBar(density="compact", flat=True):
            v3.VToolbarTitle(f"{{{{ {name.scan} }}}}", classes="text-body-1")
            html.Span(f"{{{{ {name.server} }}}}", classes="text-caption mr-4")
            unconnected = f"!{name.connected} && !{name.busy}"
            v3.VBtn("Connect", v_if=unconnected, click="trigger('connect')", **_BUTTON)
        with v3.VNavigationDrawer(permanent=True, width=400), html.Div(classes="pa-3"):
            _consent(name)
            _ask(name)
            _refer(name)
            _list(name)
            _decide(name)
            _take_along(name)
            _log(name)
        with v3.VMain(style="height: 100vh;"), html.Div(classes="d-flex fill-height"):
            viewer.layout.initialize_layout_grid(page)
    return page


def _consent(name: Page) -> None:
    v3.VCheckbox(
        v_if=name.remote,
        v_model=(name.allow_remote,),
        label="The server is another computer: let images leave this one",
        density="compact",
        hide_details=True,
    )


def _ask(name: Page) -> None:
    v3.VTextarea(
        v_model=(name.labels,),
        label="One name per line",
        rows=4,
        title=(f"'The model knows: ' + {name.known}",),
        keydown_ctrl_enter="trigger('ground')",
        __events=[("keydown_ctrl_enter", "keydown.ctrl.enter")],
        **_FIELD,
    )
    with html.Div(classes="d-flex ga-2 my-2"):
        v3.VSelect(v_model=(name.plane,), items=("planes", list(PLANES)), **_FIELD)
        v3.VSelect(v_model=(name.extent,), items=("extents", list(EXTENTS)), **_FIELD)
    with html.Div(classes=_ROW):
        _button("Ask", "trigger('ground')", name.ask_reason, "Ctrl+Enter", color="primary")
        v3.VBtn("Cancel", disabled=(f"!{name.busy}",), click="trigger('cancel')", **_BUTTON)
        html.Span(f"{{{{ {name.doing} }}}}", classes="text-caption")
    waiting = f"{name.busy} && !{name.percent}"
    v3.VProgressLinear(model_value=(name.percent,), indeterminate=(waiting,), classes="my-2")


def _refer(name: Page) -> None:
    with html.Div(classes=_ROW):
        words = f"{{{{ {name.drawing} ? 'Click two corners' : 'Draw a box' }}}}"
        v3.VBtn(words, click="trigger('draw')", active=(name.drawing,), **_BUTTON)
        _button("What is this?", "trigger('refer')", name.refer_reason, "In the box, or finding")
        _button("Describe", "trigger('refer', ['rc'])", name.refer_reason, "In a sentence")
        with v3.VBtn(
            click="trigger('adjust')",
            active=(name.brightness,),
            title="Brightness: drag in a slice",
            **_BUTTON,
        ):
            v3.VIcon("mdi-brightness-6")
    html.Div(f"{{{{ {name.answer} }}}}", classes="text-body-2 my-2", style="min-height: 1.4em;")


def _list(name: Page) -> None:
    v3.VSlider(
        v_model=(name.show_from,),
        label="Show from",
        min=0.0,
        max=1.0,
        step=0.01,
        thumb_label=True,
        density="compact",
        hide_details=True,
    )
    with v3.VTable(density="compact", classes="bird-lines", style="max-height: 40vh;"):
        with html.Thead(), html.Tr():
            for column in SHOWN_COLUMNS:
                arrow = f"{name.sorted_by} === '{column}' ? ({name.descending} ? '▾' : '▴') : ''"
                words = f"{column.capitalize()} {{{{ {arrow} }}}}"
                html.Th(words, click=f"trigger('sort', ['{column}'])")
        with html.Tbody():
            _line(name)


def _line(name: Page) -> None:
    chosen = f"line.key && line.key === {name.selected} ? 'chosen' : ''"
    with html.Tr(
        v_for=f"line in {name.lines}",
        key="line.number",
        title=("line.hint",),
        classes=(f"[line.state, {chosen}]",),
        click="trigger('select', [line.key])",
    ):
        html.Td(
            "{{ cell }}",
            v_for="(cell, column) in line.cells",
            key="column",
            style=("column === 0 ? {borderLeft: '4px solid ' + line.color} : {}",),
        )


def _decide(name: Page) -> None:
    reason = f"({name.selected} ? '' : 'Select a finding in the list.')"
    with html.Div(classes=_ROW):
        _button("Accept", "trigger('accept')", reason, "Right as it is", color="success")
        _button("Reject", "trigger('reject')", reason, "Wrong", color="error")
        _button("Reopen", "trigger('reopen')", reason, "Undecided again")
        for word, possible in (("Undo", name.can_undo), ("Redo", name.can_redo)):
            action, icon = f"trigger('{word.lower()}')", f"mdi-{word.lower()}"
            with v3.VBtn(title=word, disabled=(f"!{possible}",), click=action, **_BUTTON):
                v3.VIcon(icon)
    with html.Div(classes="d-flex ga-2 align-center"):
        v3.VTextField(v_model=(name.reviewer,), label="Reviewer", **_FIELD)
        html.Span(f"{{{{ {name.tally} }}}}", classes="text-caption")


def _take_along(name: Page) -> None:
    reason = f"({name.kept} ? '' : 'Accept findings first.')"
    with html.Div(classes=_ROW):
        for words, action, file, kind in (
            ("Report", "report", "report.html", "text/html"),
            ("Boxes for Slicer", "markups", "findings.mrk.json", "application/json"),
        ):
            click = f"utils.download('{file}', trigger('{action}'), '{kind}')"
            _button(words, click, reason, file)


def _log(name: Page) -> None:
    html.Div(
        "{{ words }}",
        v_for=f"(words, n) in {name.log}.slice(-{_SHOWN_WORDS})",
        key="n",
        classes="text-caption text-medium-emphasis mt-1",
    )


def _button(words: str, click: str, reason: str, tip: str, **further: str) -> None:
    """A button that is disabled while there is a `reason`, which its tooltip then tells.

    `reason` is an expression of the page's state.
    """
    with html.Span(title=(f"{reason} || '{tip}'",)):
        v3.VBtn(words, disabled=(f"!!{reason}",), click=click, **_BUTTON, **further)
