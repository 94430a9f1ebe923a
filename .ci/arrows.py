#!/usr/bin/env python3
"""The arrows inside crates. No files import one another, but for those of `circles.txt`, which are still to be cut
apart; and no room imports one that is not on a floor below its own, by `rooms.txt`.

    .ci/arrows.py CRATE/src...

A file imports another when it names something of it: by `crate::`, `super::`, `self::` or a child's name. Code
under `#[cfg(test)]` may import anything. What a file only hands on (`pub use`) is no import of its own.
"""
import os
import re
import sys
import tempfile


def strip(text):
    """The product code of a file: without comments, strings, and what is under #[cfg(test)]."""
    text = re.sub(r'//[^\n]*', '', text)
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    out, at = [], 0
    for found in re.finditer(r'#\[cfg\((?:test|all\(test,[^\]]*\))\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?', text):
        if found.start() < at:
            continue
        out.append(text[at:found.start()])
        depth, end = 0, found.end()
        while end < len(text):
            char = text[end]
            end += 1
            if char == '{':
                depth += 1
            elif char == '}':
                depth -= 1
                if depth == 0:
                    break
            elif char == ';' and depth == 0:
                break
        at = end
    out.append(text[at:])
    return ''.join(out)


def split(body):
    """The members of a use group."""
    members, depth, member = [], 0, ''
    for char in body:
        depth += (char == '{') - (char == '}')
        if char == ',' and depth == 0:
            members.append(member.strip())
            member = ''
        else:
            member += char
    return [one for one in members + [member.strip()] if one]


def flatten(path):
    """`a::{b, c::d}` as `a::b` and `a::c::d`."""
    found = re.match(r'(.*?)\{(.*)\}$', path, re.S)
    if not found:
        return [re.split(r'\s+as\s+', path)[0].strip()]
    head = found.group(1).strip()
    return [flat for one in split(found.group(2)) for flat in flatten(head + one)]


class Crate:
    def __init__(self, folder):
        self.folder, self.file, self.uses, self.reexports = folder, {}, {}, {}
        for base, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(base, name)
                module = os.path.relpath(path, folder)[:-3].split(os.sep)
                if not name.endswith('.rs') or 'tests' in module or 'fuzzing' in module[:1]:
                    continue
                if module in (['lib'], ['main']):
                    module = []
                self.file.setdefault(tuple(module), path)
        for module, path in self.file.items():
            self.read(module, strip(open(path).read()))

    def read(self, module, text):
        paths, hands_on = set(), {}
        def take(found):
            visible, body = found.group(1), found.group(2)
            for flat in flatten(re.sub(r'\s+', ' ', body)):
                full = self.absolute(module, flat)
                if full is None:
                    continue
                if visible:
                    hands_on[full[-1]] = full
                else:
                    paths.add(full)
            return ''
        text = re.sub(r'(?<!\w)(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);', take, text)
        for found in re.finditer(r'(?<![\w:$])((?:crate|super|self)(?:::\w+)+)', text):
            full = self.absolute(module, found.group(1))
            if full:
                paths.add(full)
        for found in re.finditer(r'(?<![\w:])([a-z_]\w*)::\w', text):
            if module + (found.group(1),) in self.file:
                paths.add(module + (found.group(1),))
        self.uses[module], self.reexports[module] = paths, hands_on

    def absolute(self, module, path):
        parts = [part.strip() for part in path.strip().split('::')]
        at = module
        if parts[0] == 'crate':
            at, parts = (), parts[1:]
        elif parts[0] in ('super', 'self'):
            while parts and parts[0] in ('super', 'self'):
                if parts[0] == 'super':
                    at = at[:-1]
                parts = parts[1:]
        elif module + (parts[0],) not in self.file:
            return None
        return at + tuple(parts) if parts else None

    def target(self, path, seen=()):
        """The file that has what `path` names, through what other files hand on."""
        for length in range(len(path), -1, -1):
            module = path[:length]
            if module in self.file:
                if length < len(path):
                    name = path[length]
                    onward = self.reexports.get(module, {}).get(name)
                    if onward and onward not in seen:
                        return self.target(onward + path[length + 1:], seen + (onward,))
                return module
        return None

    def edges(self):
        found = {}
        for module, paths in self.uses.items():
            targets = {self.target(path) for path in paths}
            found[module] = {one for one in targets if one is not None and one != module}
        return found


def circles(edges):
    """Sets of files that import one another (Tarjan, "Depth-First Search and Linear Graph Algorithms", 1972)."""
    index, low, stack, on, found, count = {}, {}, [], set(), [], [0]
    def visit(one):
        index[one] = low[one] = count[0]
        count[0] += 1
        stack.append(one)
        on.add(one)
        for other in sorted(edges.get(one, ())):
            if other not in index:
                visit(other)
                low[one] = min(low[one], low[other])
            elif other in on:
                low[one] = min(low[one], index[other])
        if low[one] == index[one]:
            part = []
            while True:
                part.append(stack.pop())
                on.discard(part[-1])
                if part[-1] == one:
                    break
            if len(part) > 1:
                found.append(sorted(part))
    for one in sorted(edges):
        if one not in index:
            visit(one)
    return found


# What may still stand in a circle: one circle a line, the crate's folder and its files. Lines only go.
KNOWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'circles.txt')


# The floors of rooms: see there.
ROOMS = os.path.join(os.path.dirname(KNOWN), 'rooms.txt')


def name(module):
    return '::'.join(module) or 'lib'


def known():
    """The circles that are left, by crate."""
    lines = [line.split('#')[0].split() for line in open(KNOWN)]
    return [(line[0], set(line[1:])) for line in lines if line]


def check(folder, known, seen=None):
    """The circles of a crate that are not known, as lines to print."""
    edges, told = Crate(folder).edges(), []
    for part in circles(edges):
        members = {name(one) for one in part}
        allowed = [one for one in known if one[0] == folder and members <= one[1]]
        if seen is not None:
            seen.extend(allowed)
        if allowed:
            continue
        told.append(f'{folder}: a circle of {len(part)} files:')
        for one in part:
            inside = sorted(name(other) for other in edges[one] if other in part)
            told.append(f'    {name(one)} -> {", ".join(inside)}')
    return told


def floors(text):
    """By crate, the floor of each room."""
    found = {}
    for line in text.splitlines():
        folder, colon, rooms = line.split('#')[0].partition(':')
        if colon:
            found[folder.strip()] = {
                room: floor for floor, names in enumerate(rooms.split('<')) for room in names.split()
            }
    return found


def check_rooms(folder, floor):
    """Imports that do not go down, and rooms without a floor, as lines to print."""
    told = []
    for module, targets in sorted(Crate(folder).edges().items()):
        if module and module[0] not in floor:
            told.append(f'{folder}: the room {module[0]} has no floor in .ci/rooms.txt')
        for target in sorted(targets):
            if not module or not target or module[0] == target[0]:
                continue
            if floor.get(target[0], -1) >= floor.get(module[0], -1):
                told.append(f'{folder}: {name(module)} imports {name(target)}, which is not on a floor below')
    return sorted(set(told))


def can_see():
    """A planted circle and a planted arrow up are found, and what is neither is not."""
    planted = {
        'lib.rs': 'mod a;\nmod b;\nmod c;\npub use a::One;\n',
        'a.rs': 'use crate::b::Two;\npub struct One(Two);\n',
        'b.rs': 'pub struct Two;\nimpl Two {\n    fn f() -> crate::One { loop {} }\n}\n',
        'c.rs': 'use crate::a::One;\n#[cfg(test)]\nmod tests {\n    use crate::b::Two;\n}\n',
    }
    with tempfile.TemporaryDirectory() as folder:
        for file, text in planted.items():
            with open(os.path.join(folder, file), 'w') as out:
                out.write(text)
        found = check(folder, [])
        up = check_rooms(folder, floors(f'{folder}: a < b < c')[folder])
    if up != [f'{folder}: a imports b, which is not on a floor below']:
        return False
    return found == [f'{folder}: a circle of 2 files:', '    a -> b', '    b -> a']


def main():
    sys.setrecursionlimit(10000)
    if not can_see():
        print('arrows: a planted circle or arrow is not found; fix the search')
        return 1
    allowed, seen = known(), []
    rooms = floors(open(ROOMS).read())
    told = [line for folder in sys.argv[1:] if folder in rooms for line in check_rooms(folder, rooms[folder])]
    told += [line for folder in sys.argv[1:] for line in check(folder, allowed, seen)]
    for folder, members in allowed:
        if folder in sys.argv[1:] and (folder, members) not in seen:
            told.append(f'{folder}: this circle is gone; take it out of .ci/circles.txt: {" ".join(sorted(members))}')
    print('\n'.join(told) if told else f'arrows: no arrow up, no new circle; {len(allowed)} left to cut')
    return 1 if told else 0


if __name__ == '__main__':
    sys.exit(main())
