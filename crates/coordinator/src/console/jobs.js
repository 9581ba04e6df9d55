// Lists of jobs.

import {post, read} from './api.js';
import {el, lastPart, number, problem, say, state, table, time} from './dom.js';

const STATES = ['scheduled', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'];

const columns = [
  ['Job', row => el('a', {href: `#/jobs/${row.id}`}, lastPart(row.input))],
  ['State', row => state(row.state)],
  ['Work', row => number(row.cost), 'number'],
  ['Attempt', row => number(row.attempt), 'number'],
  ['Submitted', row => time(row.created_at)],
  ['Error', row => row.error ? row.error.type : ''],
];

// "box=12, shelf=3" as query parameters.
function labelParameters(text) {
  return text.split(',').map(part => part.trim()).filter(Boolean).map(part => {
    const [name, ...value] = part.split('=');
    if (!value.length) throw new Error(`“${part}” is no label: write name=value`);
    return [`label.${name.trim()}`, value.join('=').trim()];
  });
}

// Shows pages of a list below each other, the next when it is asked for.
export async function pages(place, caption, columns, fetchPage, empty) {
  let page = await fetchPage();
  const list = rows => table(caption, columns, rows);
  if (!page.jobs.length) {
    place.replaceChildren(el('p', {class: 'faint'}, empty));
    return;
  }
  const whole = list(page.jobs);
  const more = el('button', {type: 'button', hidden: !page.next_cursor, onclick: async () => {
    more.disabled = true;
    try {
      page = await fetchPage(page.next_cursor);
      whole.querySelector('tbody').append(...list(page.jobs).querySelectorAll('tbody tr'));
      more.hidden = !page.next_cursor;
      say(`${page.jobs.length} more`);
    } catch (error) {
      place.append(problem(error));
    }
    more.disabled = false;
  }}, 'More');
  place.replaceChildren(whole, el('p', {}, more));
  say(`${page.jobs.length} jobs`);
}

export async function jobs(main, _, parameters, signal) {
  document.title = 'Jobs · upres';
  const wanted = parameters.get('state') || '';
  const batch = parameters.get('batch') || '';
  const stateField = el('select', {id: 'state'}, el('option', {value: ''}, 'any'),
    STATES.map(name => el('option', {value: name, selected: name === wanted}, name)));
  const labelField = el('input', {id: 'labels', type: 'search', placeholder: 'box=12', value: parameters.get('labels') || ''});
  const idField = el('input', {id: 'id', type: 'search', placeholder: '01938e2a-…', class: 'mono'});
  const place = el('div');
  const submit = event => {
    event.preventDefault();
    if (idField.value.trim()) {
      location.hash = `#/jobs/${encodeURIComponent(idField.value.trim())}`;
      return;
    }
    const query = new URLSearchParams();
    if (stateField.value) query.set('state', stateField.value);
    if (labelField.value.trim()) query.set('labels', labelField.value.trim());
    if (batch) query.set('batch', batch);
    const hash = `#/jobs?${query}`;
    if (location.hash === hash) dispatchEvent(new HashChangeEvent('hashchange'));
    else location.hash = hash;
  };
  main.replaceChildren(el('h1', {}, 'Jobs'),
    batch ? el('p', {}, 'Of the batch ', el('a', {href: `#/batches/${batch}`, class: 'mono'}, batch)) : '',
    el('form', {role: 'search', onsubmit: submit},
      el('label', {for: 'labels'}, 'Labels', labelField),
      el('label', {for: 'state'}, 'State', stateField),
      el('label', {for: 'id'}, 'Or an id', idField),
      el('button', {type: 'submit'}, 'Search')),
    place);
  const query = new URLSearchParams(labelParameters(parameters.get('labels') || ''));
  if (wanted) query.set('state', wanted);
  if (batch) query.set('batch', batch);
  const fetchPage = cursor => {
    if (cursor) query.set('cursor', cursor);
    return read(`/jobs?${query}`, signal);
  };
  await pages(place, 'Newest first. Work is in tile-steps.', columns, fetchPage, 'No jobs like that.');
}

// Failed jobs that are held back because workers died on them. Looked for among all that failed.
export async function quarantine(main, _, parameters, signal) {
  document.title = 'Quarantine · upres';
  const place = el('div');
  main.replaceChildren(el('h1', {}, 'Quarantine'),
    el('p', {class: 'faint'}, 'Jobs on which workers or devices kept dying. Releasing one forgives it all and tries it anew.'),
    place);
  const release = row => {
    const button = el('button', {type: 'button', 'aria-label': `Release ${lastPart(row.input)}`, onclick: async () => {
      button.disabled = true;
      try {
        await post(`/jobs/${row.id}/retry`);
        button.replaceWith(state('queued'));
        say('Released');
      } catch (error) {
        button.replaceWith(problem(error));
      }
    }}, 'Release');
    return button;
  };
  const held = [
    ['Job', row => el('a', {href: `#/jobs/${row.id}`}, lastPart(row.input))],
    ['Why', row => row.error.detail],
    ['Since', row => time(row.finished_at)],
    ['', release],
  ];
  const fetchPage = async cursor => {
    const found = {jobs: [], next_cursor: cursor};
    do {
      const query = new URLSearchParams({state: 'failed', limit: 500});
      if (found.next_cursor) query.set('cursor', found.next_cursor);
      const page = await read(`/jobs?${query}`, signal);
      found.jobs.push(...page.jobs.filter(row => row.error && row.error.type === 'quarantine/deaths'));
      found.next_cursor = page.next_cursor;
    } while (found.next_cursor && found.jobs.length < 20);
    return found;
  };
  await pages(place, 'Held back', held, fetchPage, 'Nothing is held back.');
}
