// One job: what it is, how far it is, what it took, and its picture before and after.

import {ask, post, read} from './api.js';
import {el, facts, lastPart, number, problem, say, span, state, table, time} from './dom.js';

// Browsers show these; other files are only offered for download.
const SHOWN = /\.(png|jpe?g|webp|gif|bmp|avif)$/i;
// Larger results are fetched only when asked for.
const AT_ONCE_BYTES = 20e6;
const ENDED = ['succeeded', 'failed', 'cancelled', 'expired'];

export async function job(main, id, _, signal) {
  document.title = 'Job · upres';
  let known = await ask(`/jobs/${encodeURIComponent(id)}`, {signal});
  const [standing, picture, details] = [el('div'), el('div'), el('div')];
  main.replaceChildren(el('h1', {}, lastPart(known.body.input)), standing, picture, details);
  let before;
  for (;;) {
    const current = known.body;
    standing.replaceChildren(...now(current));
    details.replaceChildren(...story(current));
    if (before && before !== current.state) say(`The job is ${current.state}`);
    if (current.state !== before && current.state === 'succeeded') {
      compare(current, picture, signal).catch(error => picture.replaceChildren(problem(error)));
    }
    before = current.state;
    if (ENDED.includes(current.state)) return;
    const next = await ask(`/jobs/${encodeURIComponent(id)}?wait=30`, {etag: known.etag, signal});
    if (next.status === 200) known = next;
  }
}

function now(current) {
  const progress = current.progress;
  return [
    el('p', {}, state(current.state), current.error ? ` ${current.error.type}: ${current.error.detail}` : ''),
    progress && current.state === 'running' ? [
      el('label', {for: 'tiles'}, `${number(progress.tiles)} of ${number(progress.tiles_total)} tiles`),
      el('progress', {id: 'tiles', max: progress.tiles_total, value: progress.tiles}),
    ] : [],
    actions(current),
  ].flat();
}

function story(current) {
  const labels = Object.entries(current.labels).map(([name, value]) => `${name}=${value}`).join(', ');
  return [
    facts([
      ['Input', el('span', {class: 'mono'}, current.input)],
      ['Output', el('span', {class: 'mono'}, current.output)],
      ['Timesteps', current.upscale.timesteps.join(', ')],
      ['Seed', String(current.upscale.seed)],
      ['Work', current.cost === null ? '' : `${number(current.cost)} tile-step${current.cost === 1 ? '' : 's'}`],
      ['Class', `${current.class}, priority ${current.priority}`],
      ['Labels', labels],
      ['Batch', current.batch ? el('a', {href: `#/batches/${current.batch}`, class: 'mono'}, current.batch) : ''],
      ['Result', current.result ? `${number(current.result.width)} × ${number(current.result.height)} px, ${number(current.result.bytes)} bytes` : ''],
      ['SHA-256', current.result ? el('span', {class: 'mono'}, current.result.sha256) : ''],
      ['Submitted', time(current.created_at)],
      ['Begun', time(current.started_at)],
      ['Ended', time(current.finished_at)],
      ['Id', el('span', {class: 'mono'}, current.id)],
      ...current.warnings.map(warning => ['Warning', warning]),
    ]),
    timings(current.timings),
    attempts(current.attempts || []),
  ].flat();
}

function actions(current) {
  const act = (word, path) => {
    const button = el('button', {type: 'button', onclick: async () => {
      button.disabled = true;
      try {
        await post(`/jobs/${current.id}/${path}`);
        // The page looks anew.
        dispatchEvent(new HashChangeEvent('hashchange'));
      } catch (error) {
        button.after(problem(error));
      }
    }}, word);
    return button;
  };
  const possible = [];
  if (!ENDED.includes(current.state)) possible.push(act('Cancel', 'cancel'));
  if (current.state === 'failed') possible.push(act(current.error.type === 'quarantine/deaths' ? 'Release' : 'Try again', 'retry'));
  return possible.length ? el('div', {class: 'actions'}, possible) : [];
}

function timings(stages) {
  if (!stages || !Object.keys(stages).length) return [];
  const entries = Object.entries(stages);
  const longest = Math.max(...entries.map(([, value]) => value), 1);
  return [el('h2', {}, 'Time by stage'), el('div', {class: 'bars'}, entries.map(([name, value]) => [
    el('span', {}, name.replaceAll('_', ' ')),
    el('meter', {max: longest, value, 'aria-label': `${name}: ${span(value)}`}),
    el('span', {}, span(value)),
  ]))];
}

function attempts(all) {
  if (!all.length) return [];
  return [el('h2', {}, 'Attempts'), table('Oldest first', [
    ['Attempt', row => number(row.attempt)],
    ['Outcome', row => state(row.outcome)],
    ['Worker', row => row.worker],
    ['Began', row => time(row.started_at)],
    ['Took', row => row.ended_at ? span(new Date(row.ended_at) - new Date(row.started_at)) : ''],
    ['Error', row => row.error ? `${row.error.type}: ${row.error.detail}` : ''],
  ], all)];
}

async function compare(current, place, signal) {
  const links = await read(`/jobs/${current.id}/links`, signal);
  const downloads = el('p', {class: 'actions'},
    links.input ? el('a', {href: links.input, rel: 'noreferrer'}, 'Download the input') : '',
    links.result ? el('a', {href: links.result, rel: 'noreferrer'}, 'Download the result') : '');
  const heading = el('h2', {}, 'Before and after');
  const both = links.input && links.result && SHOWN.test(current.input) && SHOWN.test(current.output);
  if (!both) {
    const why = links.input && links.result
      ? 'Browsers do not show this kind of file.' : 'This key may not read both pictures.';
    place.replaceChildren(heading, el('p', {class: 'faint'}, why), downloads);
    return;
  }
  const show = () => place.replaceChildren(heading, slider(current, links), downloads);
  if (current.result.bytes <= AT_ONCE_BYTES) {
    show();
    return;
  }
  const size = `${Math.round(current.result.bytes / 1e6)} MB`;
  place.replaceChildren(heading, el('button', {type: 'button', onclick: show}, `Show the pictures (${size})`), downloads);
}

function slider(current, links) {
  const failed = () => frame.replaceWith(el('p', {class: 'faint'}, 'The pictures cannot be shown here.'));
  const picture = (name, src, alt) => el('img', {class: name, src, alt, referrerpolicy: 'no-referrer', onerror: failed,
    width: current.result.width, height: current.result.height});
  const edge = el('div', {class: 'edge'});
  const frame = el('figure', {class: 'slider'},
    picture('before', links.input, 'the input, enlarged by the browser'),
    picture('after', links.result, 'the result'), edge);
  const range = el('input', {type: 'range', min: 0, max: 100, step: 1, value: 50, id: 'cut',
    'aria-label': 'How much of the input is shown, in per cent',
    oninput: () => frame.style.setProperty('--cut', `${range.value}%`)});
  const wrap = el('div', {}, frame, el('div', {class: 'slider-name', 'aria-hidden': 'true'}, el('span', {}, 'before'), el('span', {}, 'after')), range);
  return wrap;
}
