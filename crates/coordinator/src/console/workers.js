// Workers: who works, and how fast.

import {pause, read} from './api.js';
import {el, number, table, time} from './dom.js';

const LOOK_EVERY = 3000;

const columns = [
  ['Worker', row => row.id],
  ['Device', row => [row.device, row.dtype].filter(Boolean).join(', ')],
  ['Model', row => row.model ?? ''],
  ['Leases', row => number(row.leases), 'number'],
  ['Tile-steps a second', row => number(Math.round(row.tile_steps_per_second * 10) / 10), 'number'],
  ['Jobs done', row => number(row.jobs_ended), 'number'],
  ['Last heard of', row => time(row.last_seen)],
];

export async function workers(main, _, parameters, signal) {
  document.title = 'Workers · upres';
  const place = el('div');
  main.replaceChildren(el('h1', {}, 'Workers'), place);
  for (;;) {
    const found = await read('/workers', signal);
    place.replaceChildren(found.length ? table('Those of the last ten minutes', columns, found)
      : el('p', {class: 'faint'}, 'No worker was heard of in the last ten minutes.'));
    await pause(LOOK_EVERY, signal);
  }
}
