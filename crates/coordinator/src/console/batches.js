// Batches: how far they are, when they will be done, what went wrong.

import {pause, post, read} from './api.js';
import {el, facts, number, problem, say, state, table, time} from './dom.js';

const LOOK_EVERY = 3000;
const COUNTED = ['scheduled', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'];

const total = counts => COUNTED.reduce((sum, name) => sum + counts[name], 0);
const ended = counts => counts.succeeded + counts.failed + counts.cancelled + counts.expired;
const called = row => row.source.prefix || row.source.manifest || `${number(row.source.items)} items`;
const standing = row => row.cancelled ? 'cancelled' : row.paused ? 'paused' : row.phase;

// Work counts where it is known, jobs where it is not.
function share({work, counts}) {
  if (work.done + work.left > 0) return work.done / (work.done + work.left);
  return total(counts) ? ended(counts) / total(counts) : 0;
}

const bar = row => el('progress', {max: 1, value: share(row), 'aria-label': `${Math.floor(100 * share(row))} per cent done`});

function eta(row) {
  if (row.finished_at) return time(row.finished_at);
  return row.eta ? time(row.eta.p50) : '';
}

const columns = [
  ['Batch', row => el('a', {href: `#/batches/${row.id}`}, called(row))],
  ['State', row => state(standing(row))],
  ['Jobs', row => `${number(ended(row.counts))} of ${number(total(row.counts))}`, 'number'],
  ['Failed', row => number(row.counts.failed + row.refused), 'number'],
  ['Progress', bar],
  ['Done, or to be done by', eta],
  ['Submitted', row => time(row.created_at)],
];

export async function batches(main, _, parameters, signal) {
  document.title = 'Batches · upres';
  const query = parameters.get('cursor') ? `?cursor=${encodeURIComponent(parameters.get('cursor'))}` : '';
  const place = el('div');
  main.replaceChildren(el('h1', {}, 'Batches'), place);
  for (;;) {
    const page = await read(`/batches${query}`, signal);
    place.replaceChildren(
      page.batches.length ? table('Newest first', columns, page.batches)
        : el('p', {class: 'faint'}, 'There are no batches. “upres batch create” makes one; single images are under Jobs.'),
      page.next_cursor ? el('p', {}, el('a', {href: `#/batches?cursor=${page.next_cursor}`}, 'Older ones')) : '');
    if (page.batches.every(row => row.phase === 'finished')) return;
    await pause(LOOK_EVERY, signal);
  }
}

export async function batch(main, id, _, signal) {
  const path = `/batches/${encodeURIComponent(id)}`;
  let row = await read(path, signal);
  document.title = `${called(row)} · upres`;
  const live = el('div');
  const buttons = el('div', {class: 'actions'});
  main.replaceChildren(el('h1', {}, called(row)), live, buttons);
  const redraw = () => {
    live.replaceChildren(...figures(row));
    drawButtons();
  };
  let refused = null;
  const act = (word, action) => {
    const button = el('button', {type: 'button', onclick: async () => {
      button.disabled = true;
      if (refused) refused.remove();
      try {
        row = await post(`${path}/${action}`);
        say(`${word}: done`);
        // Whatever it was finished before, it may go on now.
        dispatchEvent(new HashChangeEvent('hashchange'));
      } catch (error) {
        refused = problem(error);
        buttons.after(refused);
        button.disabled = false;
      }
    }}, word);
    return button;
  };
  let drawn = '';
  const drawButtons = () => {
    const possible = [];
    if (!row.finished_at && !row.cancelled) possible.push(row.paused ? ['Resume', 'resume'] : ['Pause', 'pause'], ['Cancel', 'cancel']);
    if (row.counts.failed && !row.cancelled) possible.push(['Retry the failed', 'retry-failed']);
    const wanted = possible.map(([word]) => word).join();
    // Left alone when nothing changed, so that a button keeps the focus.
    if (wanted === drawn) return;
    drawn = wanted;
    buttons.replaceChildren(...possible.map(([word, action]) => act(word, action)));
  };
  redraw();
  while (row.phase !== 'finished') {
    await pause(LOOK_EVERY, signal);
    const phase = standing(row);
    row = await read(path, signal);
    redraw();
    if (standing(row) !== phase) say(`The batch is ${standing(row)}`);
  }
}

function figures(row) {
  const {counts, work} = row;
  const errors = Object.entries(row.errors).sort((a, b) => b[1] - a[1]);
  const labels = Object.entries(row.labels).map(([name, value]) => `${name}=${value}`).join(', ');
  return [
    el('p', {}, state(standing(row)), row.failure ? ` ${row.failure}` : ''),
    bar(row),
    el('p', {class: 'faint'}, `${Math.floor(100 * share(row))} % · ${number(work.done)} of ${number(work.done + work.left)} tile-steps`,
      work.pace ? ` · ${number(Math.round(work.pace * 10) / 10)} a second` : ''),
    el('ul', {class: 'cards'},
      COUNTED.filter(name => counts[name]).map(name => el('li', {},
        el('a', {href: `#/jobs?batch=${row.id}&state=${name}`}, name), el('strong', {}, number(counts[name])))),
      row.refused ? el('li', {}, 'refused', el('strong', {}, number(row.refused))) : ''),
    facts([
      ['Half chance by', row.eta && !row.finished_at ? time(row.eta.p50) : ''],
      ['Nearly sure by', row.eta && row.eta.p90 && !row.finished_at ? time(row.eta.p90) : ''],
      ['Items read', number(row.listed)],
      ['Left out', row.skipped ? number(row.skipped) : ''],
      ['Runs again', row.parent ? el('a', {href: `#/batches/${row.parent}`}, row.parent) : ''],
      ['Unchanged since', row.parent ? number(row.unchanged) : ''],
      ['Class', `${row.class}, priority ${row.priority}`],
      ['Labels', labels],
      ['Report', row.report ? el('span', {class: 'mono'}, row.report) : row.report_failure ? `not written: ${row.report_failure}` : ''],
      ['Submitted', time(row.created_at)],
      ['All read', time(row.expanded_at)],
      ['Finished', time(row.finished_at)],
      ['Id', el('span', {class: 'mono'}, row.id)],
    ]),
    errors.length ? [el('h2', {}, 'Errors'), table('Failed jobs by the type of their error', [
      ['Type', ([type]) => el('code', {}, type)],
      ['Jobs', ([, count]) => number(count), 'number'],
    ], errors)] : [],
  ].flat();
}
