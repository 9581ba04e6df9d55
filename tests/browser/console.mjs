// Uses the console as a person would, by what is to be read on it and by the keyboard; the story in
// tests/it/console.rs has made what is to be seen. Screenshots land in PICTURES.

import assert from 'node:assert/strict';
import {createRequire} from 'node:module';

const {PLAYWRIGHT, CHROMIUM, URL: address, KEY, SHOWN, WAITING, HELD_BACK, BATCH, HOSTILE, PICTURES} = process.env;
const {chromium} = createRequire(`${PLAYWRIGHT}/`)('playwright-core');
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update'],
});
const desk = {width: 1200, height: 900};
const page = await browser.newPage({viewport: desk, reducedMotion: 'reduce'});
const complaints = [];
const foreign = [];
page.on('console', message => {
  // A refused key is an answer that the browser reports as an error.
  if (message.type() === 'error' && !message.text().includes('401')) complaints.push(message.text());
});
page.on('pageerror', error => complaints.push(String(error)));
page.on('request', request => foreign.push(new URL(request.url()).hostname));

const shoot = name => page.screenshot({path: `${PICTURES}/${name}.png`, fullPage: true});
const heading = name => page.getByRole('heading', {name, level: 1}).waitFor();
const link = name => page.getByRole('link', {name});
// What a page shows is drawn anew from time to time: waited for, not looked at once.
const rows = number =>
  page.waitForFunction(number => document.querySelectorAll('tr').length === number, number);
const go = async hash => {
  await page.goto(`${address}/${hash}`);
  await page.getByRole('main').locator('h1').waitFor();
};

try {
  // Signing in, with the keyboard alone.
  await page.goto(address);
  await heading('Sign in');
  assert.equal(await page.getByRole('navigation').isVisible(), false);
  await page.keyboard.type('upres_0000_0000');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').waitFor();
  await page.getByLabel('API key').fill(KEY);
  await page.keyboard.press('Enter');
  await heading('Batches');
  assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
  await page.getByRole('table').waitFor();
  await shoot('batches');

  // A batch: counts, errors, a way to what failed.
  await page.getByRole('main').getByRole('link', {name: '3 items'}).click();
  await heading('3 items');
  await page.getByText('finished', {exact: true}).waitFor();
  await page.getByText('input/unreadable').waitFor();
  await shoot('batch');
  await link('failed').click();
  await heading('Jobs');
  await link('broken.png').waitFor();
  await rows(2);

  // Search by label; what a label holds is shown and not obeyed.
  await link('Jobs').click();
  await page.getByLabel('Labels').fill('box=12');
  await page.keyboard.press('Enter');
  await link('shown.png').waitFor();
  await rows(2);
  await shoot('jobs');
  await link('shown.png').click();
  await heading('shown.png');
  await page.getByText(HOSTILE).waitFor();
  assert.doesNotMatch(await page.title(), /broken/);

  // Before and after, by the keyboard.
  const after = page.getByRole('img', {name: 'the result'});
  await after.waitFor();
  await page.waitForFunction(() => [...document.images].every(image => image.complete && image.naturalWidth > 0));
  assert.deepEqual(await after.evaluate(image => [image.naturalWidth, image.naturalHeight]), [384, 256]);
  const cut = page.getByRole('slider');
  await cut.focus();
  await page.keyboard.press('Home');
  assert.match(await after.evaluate(image => getComputedStyle(image).clipPath), /0%|0px/);
  await page.keyboard.press('End');
  assert.match(await after.evaluate(image => getComputedStyle(image).clipPath), /100%/);
  await page.keyboard.press('Home');
  for (let step = 0; step < 40; step++) await page.keyboard.press('ArrowRight');
  await page.getByRole('heading', {name: 'Attempts'}).waitFor();
  await page.getByRole('heading', {name: 'Time by stage'}).waitFor();
  await shoot('job');

  // A waiting job is cancelled, and the page follows.
  await go(`#/jobs/${WAITING}`);
  await page.getByRole('button', {name: 'Cancel'}).click();
  await page.locator('.state.cancelled').waitFor();

  // A job that is held back is released.
  await link('Quarantine').click();
  await heading('Quarantine');
  await page.getByText('two workers died').waitFor();
  await shoot('quarantine');
  await page.getByRole('button', {name: 'Release held-back.png'}).click();
  await page.locator('.state.queued').waitFor();
  assert.ok(HELD_BACK);

  await link('Workers').click();
  await heading('Workers');
  await page.getByRole('table').waitFor();
  await shoot('workers');

  // A phone: nothing wider than the screen, on any page.
  await page.setViewportSize({width: 360, height: 740});
  for (const [name, hash] of [['batches', '#/batches'], ['batch', `#/batches/${BATCH}`], ['jobs', '#/jobs'], ['job', `#/jobs/${SHOWN}`], ['workers', '#/workers']]) {
    await page.goto('about:blank');
    await go(hash);
    await page.waitForFunction(() => !document.body.innerText.includes('Loading…'));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${name} is ${wide} px wider than a phone`);
    await shoot(`phone-${name}`);
  }
  await page.setViewportSize(desk);

  // Every control has a name, every page one heading of the first order.
  for (const hash of ['#/batches', '#/jobs', `#/jobs/${SHOWN}`, '#/quarantine', '#/workers']) {
    await go(hash);
    const nameless = await page.evaluate(() => [...document.querySelectorAll('a, button, input, select, img, meter, progress')]
      .filter(element => !element.closest('[hidden]'))
      .filter(element => !(element.textContent.trim() || element.getAttribute('aria-label') || element.alt
        || (element.labels && element.labels.length)))
      .map(element => element.outerHTML));
    assert.deepEqual(nameless, [], hash);
    assert.equal(await page.locator('h1').count(), 1, hash);
  }

  // The other pages, under the same policy.
  for (const path of ['/docs', '/problems', '/problems/conflict']) {
    const answer = await page.goto(address + path);
    assert.match(answer.headers()['content-security-policy'], /default-src 'none'; script-src 'self'/);
    assert.ok(await page.getByRole('heading').first().isVisible());
  }
  await page.goto(`${address}/docs`);
  await page.getByText('/v1/jobs/lookup').first().waitFor();
  await shoot('docs');

  await page.goto(address);
  await heading('Batches');
  await page.getByRole('button', {name: 'Sign out'}).click();
  await heading('Sign in');
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);

  assert.deepEqual(complaints, []);
  assert.deepEqual([...new Set(foreign)].filter(host => host && host !== '127.0.0.1'), []);
} catch (error) {
  await shoot('failed').catch(() => {});
  console.error(complaints.join('\n'), `\n${page.url()}\n`, await page.locator('main').innerText().catch(() => ''));
  throw error;
} finally {
  await browser.close();
}
