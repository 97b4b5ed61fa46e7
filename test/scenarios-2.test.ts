import { everyScenario } from './every-scenario.ts';

await everyScenario(1);
