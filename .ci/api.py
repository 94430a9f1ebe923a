#!/usr/bin/env python3
"""The public API of `corewire`, as its documentation shows it, against the list that is committed.

    .ci/api.py DOC            fails when docs/public-api.txt says something else
    .ci/api.py DOC --write    writes it

Each item with its declaration, its methods, and the traits that it implements. What is hidden in the documentation is not
part of it, and neither is what the compiler or a blanket implementation adds.

It fails as well when an item's page has no example and .ci/examples.txt does not name the item, or names one that has.
"""
import difflib
import os
import re
import sys
from html.parser import HTMLParser

CRATE = 'corewire'
LIST = os.path.join('docs', 'public-api.txt')
# Items whose pages have no example.
EXAMPLE_KINDS = ('struct', 'enum', 'trait', 'fn', 'macro', 'attr', 'type')
BARE = os.path.join('.ci', 'examples.txt')
EXAMPLE = re.compile(r'<div class="example-wrap|<pre class="rust rust-example-rendered')
# Types of other crates that are handed on whole.
FOREIGN = {'struct.Bytes.html'}
SKIPPED_SECTIONS = {'synthetic-implementations-list', 'blanket-implementations-list', 'implementors-list'}
VOID = {'br', 'img', 'input', 'meta', 'link', 'hr', 'wbr'}


class Page(HTMLParser):
    """Takes the declaration and the code headers out of an item's page."""

    def __init__(self):
        super().__init__()
        self.stack, self.taken, self.lines, self.skipped = [], None, [], 0

    def handle_starttag(self, tag, attributes):
        if tag in VOID:
            return
        known = dict(attributes)
        classes = (known.get('class') or '').split()
        skips = known.get('id') in SKIPPED_SECTIONS
        takes = self.taken is None and not self.skipped and (
            (tag == 'pre' and 'item-decl' in classes) or (tag in ('h3', 'h4') and 'code-header' in classes))
        self.stack.append((tag, skips, takes))
        self.skipped += skips
        if takes:
            self.taken = ''
        elif self.taken is not None and 'where' in classes:
            self.taken += ' '

    def handle_endtag(self, tag):
        while self.stack:
            name, skips, takes = self.stack.pop()
            self.skipped -= skips
            if takes:
                text = self.taken.replace('ⓘ', '')
                if name == 'pre':
                    lines = [line.rstrip() for line in text.splitlines()]
                    text = '\n  '.join(line for line in lines if line)
                else:
                    text = re.sub(r'\s+', ' ', text).strip()
                self.lines.append((name, text))
                self.taken = None
            if name == tag:
                break

    def handle_data(self, data):
        if self.taken is not None:
            self.taken += data


def item(path):
    """The lines of one page."""
    page = Page()
    page.feed(open(path, encoding='utf-8').read())
    lines = []
    for tag, text in page.lines:
        # Variants stand in the declaration, and what a trait wants in that of the trait.
        if tag == 'pre' or (tag == 'h3' and text.startswith('impl')) or (tag == 'h4' and text.startswith('pub ')):
            lines.append(('    ' if tag == 'h4' else '  ') + text)
    return lines


def listing(folder):
    found = []
    for base, _, files in os.walk(folder):
        module = [CRATE] + [part for part in os.path.relpath(base, folder).split(os.sep) if part != '.']
        for file in files:
            kind = file.split('.')[0]
            if file in FOREIGN or kind not in ('struct', 'enum', 'trait', 'fn', 'macro', 'attr', 'constant', 'type', 'static', 'union'):
                continue
            title = f'{kind} {"::".join(module + [file.split(".")[1]])}'
            found.append((title.split(' ')[1], [title] + item(os.path.join(base, file))))
    return '\n\n'.join('\n'.join(lines) for _, lines in sorted(found)) + '\n'


def bare(folder):
    """The items and modules without an example, each as the kind and the path."""
    found = set()
    for base, _, files in os.walk(folder):
        module = [CRATE] + [part for part in os.path.relpath(base, folder).split(os.sep) if part != '.']
        for file in files:
            kind = file.split('.')[0]
            if file in FOREIGN or not (file == 'index.html' or kind in EXAMPLE_KINDS and file.count('.') == 2):
                continue
            text = open(os.path.join(base, file), encoding='utf-8').read()
            # A page of a private path only leads to the public one.
            if 'http-equiv="refresh"' in text or EXAMPLE.search(text):
                continue
            name = module if file == 'index.html' else module + [file.split('.')[1]]
            found.add(f'{"mod" if file == "index.html" else kind} {"::".join(name)}')
    return found


def check_examples(folder):
    """Whether exactly the items that are named have no example."""
    lines = open(BARE, encoding='utf-8').read().splitlines()
    named = {line for line in lines if line and not line.startswith('#')}
    found = bare(folder)
    for line in sorted(found - named):
        print(f'api: {line}: its page has no example; write one')
    for line in sorted(named - found):
        print(f'api: {line} has an example, or is gone; take it out of {BARE}')
    return found == named


def main():
    folder = os.path.join(sys.argv[1], CRATE)
    text = listing(folder)
    if text.count('\n\n') < 50 or f'struct {CRATE}::Server\n' not in text:
        print(f'api: {folder} does not look like the documentation of {CRATE}; fix the search')
        return 1
    if '--write' in sys.argv:
        open(LIST, 'w', encoding='utf-8').write(text)
        return 0
    if not check_examples(folder):
        return 1
    known = open(LIST, encoding='utf-8').read()
    if text == known:
        print('api: as listed')
        return 0
    print(f'api: the public API is not what {LIST} lists. If the change is meant, list it:')
    print('    .ci/doc.sh --write')
    sys.stdout.writelines(line + '\n' for line in difflib.unified_diff(
        known.splitlines(), text.splitlines(), LIST, 'now', n=1, lineterm=''))
    return 1


if __name__ == '__main__':
    sys.exit(main())
