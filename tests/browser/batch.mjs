// Looks at one finished batch in the console; the story in tests/it/all_files.rs has made it. The screenshot
// lands in PICTURES.

import assert from 'node:assert/strict';
import {createRequire} from 'node:module';

const {PLAYWRIGHT, CHROMIUM, URL: address, KEY, BATCH, SUCCEEDED, FAILED, ERRORS, PICTURES} = process.env;
const {chromium} = createRequire(`${PLAYWRIGHT}/`)('playwright-core');
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update'],
});
try {
  const page = await browser.newPage({viewport: {width: 1000, height: 800}, reducedMotion: 'reduce'});
  await page.goto(address);
  await page.getByLabel('API key').fill(KEY);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', {name: 'Batches', level: 1}).waitFor();
  await page.goto(`${address}/#/batches/${BATCH}`);
  await page.getByText('finished', {exact: true}).waitFor();
  const seen = (await page.getByRole('main').innerText()).replaceAll(/\s+/g, ' ');
  assert.match(seen, new RegExp(`\\b${SUCCEEDED}\\b`), seen);
  assert.match(seen, new RegExp(`\\b${FAILED}\\b`), seen);
  for (const [type, jobs] of Object.entries(JSON.parse(ERRORS))) {
    assert.match(seen, new RegExp(`${type} ${jobs}|${jobs} ${type}`), seen);
  }
  await page.screenshot({path: `${PICTURES}/batch.png`, fullPage: true});
} finally {
  await browser.close();
}
