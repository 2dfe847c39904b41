"""The bash completion of `./lab`: tasks, their options, modes and boxes, and what labs/ and captures/ hold and
what stands at that moment."""

from __future__ import annotations

from tunlab.command.menu import Entry, entries
from tunlab.command.options import STANDING

_SCRIPT = """\
# Completion of ./lab for bash: source <(./lab completion bash)
_tunlab() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} task=${{COMP_WORDS[1]}}
    local labs stand runs lessons exercises words lead=
    local home=$(dirname -- "${{COMP_WORDS[0]}}")
    labs=$(cd "$home/labs" 2>/dev/null && printf '%s\\n' *.yaml | sed 's/\\.yaml$//')
    lessons=$(cd "$home/labs/lessons" 2>/dev/null && printf '%s\\n' *.md)
    exercises=$(cd "$home/labs/exercises" 2>/dev/null && printf '%s\\n' *.yaml | sed 's/\\.yaml$//')
    runs=$(cd "$home/captures" 2>/dev/null && compgen -G '*/results.json' | sed 's,/.*,,')
    local runtime=$XDG_RUNTIME_DIR/tunlab
    [ -O "$XDG_RUNTIME_DIR" ] || runtime=${{TMPDIR:-/tmp}}/tunlab-$UID
    stand=$(cd "$runtime" 2>/dev/null && compgen -G '*/' | tr -d /)
    case $task in {standing}) labs=$stand ;; esac
    if [ "$COMP_CWORD" = 1 ]; then
        words="{tasks} help"
    else
        case $before in
{values}
        --lab) words=$labs ;;
        --up) words=$(cd "$home/labs" && printf '%s\\n' *.yaml | sed 's/\\.yaml$//') ;;
        --exercise) words=$exercises ;;
        --out) COMPREPLY=($(compgen -d -- "$word")); return ;;
        -w | --svg | --baseline | --from) COMPREPLY=($(compgen -f -- "$word")); return ;;
        *)
            case $task in
{options}
            help) words="{tasks}" ;;
            esac
            case $task in open | report) [ "$COMP_CWORD" != 2 ] || words="$runs $words" ;; esac
            case $task in lesson) [ "$COMP_CWORD" != 2 ] || words="${{lessons//.md/}} $words" ;; esac
            case $task in exercise) [ "$COMP_CWORD" != 2 ] || words="$exercises $words" ;; esac
            case $task in {takers}) [ "$COMP_CWORD" != 2 ] || words="$labs $words" ;; esac ;;
        esac
    fi
    # A list after commas: what stands before the last one stays.
    case $word in *,*) lead=${{word%,*}}, ;; esac
    COMPREPLY=($(compgen -P "$lead" -W "$words" -- "${{word##*,}}"))
}}
complete -F _tunlab lab
"""


def script(shell: str) -> None:
    """Print the script; `shell` is one of the words that the command line allows."""
    menu = entries()
    choices: dict[str, tuple[str, ...]] = {}
    for each in (option for entry in menu.values() for option in entry.options if option.choices):
        choices[each.flag] = tuple(dict.fromkeys((*choices.get(each.flag, ()), *each.choices)))
    values = [f'        {flag}) words="{" ".join(words)}" ;;' for flag, words in choices.items()]
    options = [f'            {entry.name}) words="{_flags(entry)}" ;;' for entry in menu.values()]
    takers = [entry.name for entry in menu.values() if any(each.name == "lab" for each in entry.positionals)]
    print(
        _SCRIPT.format(
            tasks=" ".join(menu),
            values="\n".join(values),
            options="\n".join(options),
            takers=" | ".join(takers),
            standing=" | ".join(sorted(STANDING)),
        ),
        end="",
    )


def _flags(entry: Entry) -> str:
    fixed = [word for each in entry.positionals for word in each.choices]
    return " ".join([*(each.flag for each in entry.options), *fixed])
