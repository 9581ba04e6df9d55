// Signing in, and which page is shown. Pages are functions (main, id, parameters, signal); the signal is
// aborted when the page is left.

import {forget, keep, key, read} from './api.js';
import {el, problem, say} from './dom.js';
import {batch, batches} from './batches.js';
import {job} from './job.js';
import {jobs, quarantine} from './jobs.js';
import {workers} from './workers.js';

const main = document.getElementById('main');
const nav = document.querySelector('nav');
const leave = document.getElementById('leave');
const lists = {batches, jobs, quarantine, workers};
const singles = {batches: batch, jobs: job};
let shown = new AbortController();

async function route() {
  shown.abort();
  shown = new AbortController();
  const {signal} = shown;
  nav.hidden = leave.hidden = !key();
  if (!key()) return signIn();
  const [path, query] = location.hash.replace(/^#\//, '').split('?');
  const [kind, id] = path.split('/');
  const page = id ? singles[kind] : lists[kind] || (kind ? undefined : batches);
  for (const link of nav.querySelectorAll('a')) {
    const here = link.hash === `#/${kind || 'batches'}`;
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  main.replaceChildren(el('p', {class: 'faint'}, 'Loading…'));
  try {
    if (!page) throw new Error('There is no such page.');
    await page(main, id && decodeURIComponent(id), new URLSearchParams(query), signal);
  } catch (error) {
    if (error.name === 'AbortError' || signal.aborted) return;
    if (error.status === 401) return signOut('This key is no longer in force.');
    main.replaceChildren(problem(error));
  }
}

function signIn(word) {
  document.title = 'Sign in · upres';
  const input = el('input', {type: 'password', id: 'key', name: 'key', autocomplete: 'off', required: true, spellcheck: 'false'});
  const trouble = el('div');
  const submit = async event => {
    event.preventDefault();
    keep(input.value.trim());
    try {
      await read('/jobs?limit=1');
      say('Signed in');
      await route();
    } catch (error) {
      forget();
      trouble.replaceChildren(problem(error));
    }
  };
  main.replaceChildren(el('form', {class: 'sign-in', onsubmit: submit},
    el('h1', {}, 'Sign in'),
    el('label', {for: 'key'}, 'API key', input),
    el('p', {class: 'faint'}, 'A key with the scope “read”; kept until this tab is closed.'),
    el('button', {type: 'submit', class: 'main'}, 'Sign in'), trouble));
  if (word) trouble.append(problem(new Error(word)));
  input.focus();
}

function signOut(word) {
  forget();
  nav.hidden = leave.hidden = true;
  signIn(word);
}

leave.addEventListener('click', () => {
  shown.abort();
  signOut();
});
addEventListener('hashchange', () => {
  // The link past the navigation is no page.
  if (location.hash === '#main') return;
  route();
  main.focus();
});
route();
