// Loads the marked parts of a page again, and copies ids. Everything else works without it.

const every = 5000;
const live = document.body.dataset.refresh !== undefined;
const pause = document.getElementById('pause');
const said = document.getElementById('said');
let paused = false;
let loading = false;

function say(text) {
  if (said.textContent !== text) said.textContent = text;
}

// What a person has opened, and where the focus is, stays.
function replace(old, fresh) {
  if (old.innerHTML === fresh.innerHTML) return;
  const open = new Set([...old.querySelectorAll('details[open][id]')].map((d) => d.id));
  const focused = old.contains(document.activeElement) ? document.activeElement.id : '';
  if (focused === '' && old.contains(document.activeElement)) return; // next time
  old.replaceChildren(...fresh.childNodes);
  for (const d of old.querySelectorAll('details[id]')) if (open.has(d.id)) d.open = true;
  if (focused !== '') document.getElementById(focused)?.focus({ preventScroll: true });
  enable(old);
}

async function refresh() {
  if (paused || loading || document.hidden) return;
  loading = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, redirect: 'error' });
    if (answer.status === 401 || answer.status === 403) {
      say('The login is no longer valid: reload the page to log in.');
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (paused) return;
    for (const part of document.querySelectorAll('[data-live]')) {
      const next = fresh.getElementById(part.id);
      if (next) replace(part, next);
    }
    const trouble = fresh.getElementById('problem');
    if (trouble) say(trouble.textContent.trim().replace(/\s+/g, ' '));
    else say(answer.ok ? '' : `The answer was ${answer.status}. What is shown is from before.`);
  } catch {
    say('The service does not answer. What is shown is from before.');
  } finally {
    loading = false;
  }
}

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not over plain HTTP, except from this machine
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
    button.focus();
  }
  say('Copied ' + text);
}

function enable(root) {
  for (const button of root.querySelectorAll('button[data-copy]')) button.hidden = false;
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-copy]');
  if (button) copy(button);
});

enable(document);
if (live) {
  pause.hidden = false;
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    pause.textContent = paused ? 'Paused' : 'Pause';
    if (!paused) refresh();
  });
  setInterval(refresh, every);
  document.addEventListener('visibilitychange', refresh);
}
