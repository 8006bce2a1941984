"""What runs in the page: JavaScript that looks at ComfyUI's frontend, or does what no mouse can."""

from __future__ import annotations

# What the server reports while it runs.
RECORD = """
() => {
  window.run = {step: 0, ended: null};
  app.api.addEventListener('progress', event => { run.step = event.detail.value; });
  app.api.addEventListener('execution_start', () => { run.step = 0; run.ended = null; });
  for (const end of ['execution_success', 'execution_error', 'execution_interrupted'])
    app.api.addEventListener(end, () => { run.ended = end; });
}
"""
# The picture that a node shows: the canvas draws it, Nodes 2.0 has an element for it.
PICTURE = """
type => {
  const node = app.graph.nodes.find(node => node.type === type);
  return node.imgs?.[0] ?? document.querySelector(`[data-node-id="${node.id}"] img`);
}
"""
# A node's picture as 16 x 16 RGBA values, the pixels of the original, and whether the run goes on.
LOOK = """
async ([type, step]) => {
  const shown = () => (PICTURE)(type);
  while (run.step < step && !run.ended || !shown()?.complete) {
    if (run.ended && run.ended !== 'execution_success') throw new Error(`the run ended with ${run.ended}`);
    await new Promise(requestAnimationFrame);
  }
  const picture = shown(), canvas = new OffscreenCanvas(16, 16), pen = canvas.getContext('2d');
  pen.drawImage(picture, 0, 0, 16, 16);
  const values = [...pen.getImageData(0, 0, 16, 16).data];
  return {values, size: [picture.naturalWidth, picture.naturalHeight], step: run.step, ended: run.ended};
}
""".replace("PICTURE", PICTURE)
DROP = """
data => {
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0)), dropped = new DataTransfer();
  dropped.items.add(new File([bytes], 'picture.png', {type: 'image/png'}));
  return dropped;
}
"""
# Titles of nodes on the screen in whose middle lies something else: neither the canvas nor the title itself.
# Not at the bottom, where the tools of the canvas cover whatever of a large workflow comes to lie there.
COVERED = """
() => app.graph.nodes.flatMap(node => {
  const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] - 15]);
  const box = app.canvas.canvas.getBoundingClientRect();
  const there = y < box.height - 80 && document.elementFromPoint(box.left + x, box.top + y);
  return !there || there === app.canvas.canvas || there.innerText?.includes(node.title) ? [] : [node.title];
})
"""
OVERLAPPING = """
() => {
  const boxes = app.graph.nodes.flatMap(node => {
    const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    return box ? [[node.title, box]] : [];
  });
  return boxes.flatMap(([title, a], i) => boxes.slice(0, i).filter(([, b]) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom).map(([other]) => [title, other]));
}
"""
# Whether a text field has the keyboard, within three seconds.
TYPING = """
async () => {
  const end = performance.now() + 3000;
  while (!document.activeElement.matches('input') && performance.now() < end) await new Promise(requestAnimationFrame);
  return document.activeElement.matches('input');
}
"""
CHANGE = """
([type, name, value]) => {
  app.graph.nodes.find(node => node.type === type).widgets.find(widget => widget.name === name).value = value;
}
"""
